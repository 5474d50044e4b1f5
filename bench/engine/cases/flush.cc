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

Sample run_ours() {
  const auto engine = make_engine();
  const auto queue = make_queue(*engine, upci::kWqPercpu);
  const std::vector<int>& cpus = machine_cpus();
  Holding holding(cpus.size());
  std::vector<ClosureWork> holders(cpus.size());
  std::vector<ClosureWork> works(kItems);
  for (std::size_t i = 0; i < kItems; i++) {
    works[i].function = &nothing;
    engine->queue_work_on(cpus[i % cpus.size()], *queue, works[i]);
  }
  engine->flush_workqueue(*queue);
  for (std::size_t i = 0; i < cpus.size(); i++) {
    holders[i].function = &Holding::hold;
    holders[i].context = &holding;
    engine->queue_work_on(cpus[i], *queue, holders[i]);
  }
  holding.wait_until_all_are_held();
  for (std::size_t i = 0; i < kItems; i++) engine->queue_work_on(cpus[i % cpus.size()], *queue, works[i]);
  const Meter meter;
  const std::uint64_t start = ticks();
  holding.release();
  engine->flush_workqueue(*queue);
  const double time = nanoseconds(start, ticks());
  Sample sample;
  sample.usage = meter.read();
  sample.value = time / 1e3;
  return sample;
}

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
