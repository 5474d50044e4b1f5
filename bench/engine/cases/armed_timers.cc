// SPDX-License-Identifier: Apache-2.0
// What it costs to arm and to cancel a delayed work while very many others are armed.
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/cases/timer_peers.h"
#include "bench/engine/clock.h"
#include "bench/engine/peers/ours.h"

namespace bench {

namespace {

struct Armed : upci::DelayedWork {
  Armed() : upci::DelayedWork([](upci::Work&) {}) {}
};

enum class Which { kOwn, kAny };

Sample run_ours(std::size_t armed, Which which) {
  const auto engine = make_engine();
  FarDelays delays;
  std::vector<Armed> works(armed);
  auto& queue = engine->system_wq();
  const int cpu = worker_cpu();
  for (Armed& work : works) engine->queue_delayed_work_on(cpu, queue, work, delays.next());
  Armed own;
  const Meter meter;
  const std::uint64_t start = ticks();
  for (int i = 0; i < kTimerOperations; i++) {
    if (which == Which::kOwn) {
      engine->queue_delayed_work_on(cpu, queue, own, delays.next());
      engine->cancel_delayed_work(own);
    } else {
      Armed& one = works[delays.below(armed)];
      engine->cancel_delayed_work(one);
      engine->queue_delayed_work_on(cpu, queue, one, delays.next());
    }
  }
  const double time = nanoseconds(start, ticks());
  Sample sample;
  sample.usage = meter.read();
  sample.value = time / kTimerOperations;
  for (Armed& work : works) engine->cancel_delayed_work(work);
  return sample;
}

Contestant ours(Contestant::Kind kind, std::string name, std::size_t armed, Which which) {
  return {.kind = kind,
          .name = std::move(name),
          .settings = which == Which::kOwn
                          ? fmt::format("queue_delayed_work_on and cancel_delayed_work of one; {} others armed", armed)
                          : fmt::format("cancel_delayed_work and queue_delayed_work_on of any of {} armed ones", armed),
          .run = [armed, which] { return run_ours(armed, which); }};
}

}  // namespace

Case armed_timers_case() {
  Case one;
  one.name = "armed-timers";
  one.title = "arming and cancelling a delayed work while 1,000,000 others are armed";
  one.unit = "ns";
  one.method = fmt::format("{} times, with a new delay of 1000 to 2000 s each; both calls together.", kTimerOperations);
  one.targets = {{.against = Target::Against::kVariant, .name = "1,000 armed", .ratio = 2.0}};
  one.contestants.push_back(ours(Contestant::Kind::kOurs, "upci", 1'000'000, Which::kOwn));
  one.contestants.push_back(ours(Contestant::Kind::kVariant, "1,000 armed", 1'000, Which::kOwn));
  one.contestants.push_back(ours(Contestant::Kind::kVariant, "any of 1,000", 1'000, Which::kAny));
  one.contestants.push_back(ours(Contestant::Kind::kVariant, "any of 1,000,000", 1'000'000, Which::kAny));
  for (Contestant& peer : armed_timer_peers(1'000'000)) one.contestants.push_back(std::move(peer));
  one.remark = "Any of 1,000,000 is out of every cache: that row is for the memory as much as for the engine.";
  return one;
}

}  // namespace bench
