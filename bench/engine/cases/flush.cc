// SPDX-License-Identifier: Apache-2.0
// 10,000 items are pending behind items that hold the workers; these are let go, and all is waited for.
#include <fmt/format.h>

#include <atomic>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/cases/flush_peers.h"
#include "bench/engine/clock.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/ours.h"
#include "workqueue/workqueue.h"

namespace bench {

namespace {

constexpr std::size_t kItems = 10'000;

void nothing(void*) {}

// A template, so that the program is also built with an engine that has no flush_workqueue.
template <class Engine, class Queue>
void flush_queue(Engine& engine, Queue& queue, std::vector<ClosureWork>& works, std::size_t cpus) {
  if constexpr (requires { engine.flush_workqueue(queue); }) {
    engine.flush_workqueue(queue);
  } else {
    for (std::size_t i = 0; i < cpus; i++) engine.flush_work(works[works.size() - 1 - i]);
  }
}

template <class Engine>
Sample flush_ours(Engine& engine) {
  const std::vector<int>& cpus = machine_cpus();
  Holding holding(cpus.size());
  std::vector<ClosureWork> holders(cpus.size());
  std::vector<ClosureWork> works(kItems);
  std::vector<ClosureWork> warm_up(kItems);
  auto& queue = engine.system_wq();
  for (std::size_t i = 0; i < kItems; i++) {
    works[i].function = &nothing;
    engine.queue_work_on(cpus[i % cpus.size()], queue, works[i]);
  }
  for (ClosureWork& work : works) engine.flush_work(work);
  for (std::size_t i = 0; i < cpus.size(); i++) {
    holders[i].function = &Holding::hold;
    holders[i].context = &holding;
    engine.queue_work_on(cpus[i], queue, holders[i]);
  }
  holding.wait_until_all_are_held();
  for (std::size_t i = 0; i < kItems; i++) engine.queue_work_on(cpus[i % cpus.size()], queue, works[i]);
  const Meter meter;
  const std::uint64_t start = ticks();
  holding.release();
  flush_queue(engine, queue, works, cpus.size());
  const double time = nanoseconds(start, ticks());
  Sample sample;
  sample.usage = meter.read();
  sample.value = time / 1e3;
  return sample;
}

Sample run_ours() { return flush_ours(*make_engine()); }

}  // namespace

std::vector<Case> flush_cases() {
  Case one;
  one.name = "flush-10000";
  one.title = "flush of 10,000 pending items";
  one.unit = "us";
  one.method = fmt::format(
      "{} workers, one a CPU, are held by an item each, and 10,000 empty items queued; then the workers are let go and "
      "the "
      "waiting call is made. Let go -> the call returns.",
      machine_cpus().size());
  one.targets = {{.against = Target::Against::kBestPeer, .ratio = 0.7}};
  one.contestants.push_back({.kind = Contestant::Kind::kOurs,
                             .name = "upci",
                             .settings = "flush_workqueue, items on each CPU in turn",
                             .run = run_ours});
  for (Contestant& peer : flush_peers(kItems)) one.contestants.push_back(std::move(peer));
  return {std::move(one)};
}

}  // namespace bench
