// SPDX-License-Identifier: Apache-2.0
// A function is run on another CPU, and its caller waits for it.
#include <fmt/format.h>

#include <functional>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/clock.h"
#include "bench/engine/floors/floors.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/ours.h"
#include "bench/engine/statistics.h"

namespace bench {

namespace {

constexpr int kRounds = 2000;

Sample time_rounds(const std::function<void()>& round_trip) {
  for (int i = 0; i < 20; i++) round_trip();
  std::vector<double> times;
  times.reserve(kRounds);
  const Meter meter;
  for (int i = 0; i < kRounds; i++) {
    const std::uint64_t start = ticks();
    round_trip();
    times.push_back(nanoseconds(start, ticks()));
  }
  Sample sample;
  sample.usage = meter.read();
  sample.value = median(times);
  sample.more["p99 ns"] = percentile(times, 0.99);
  return sample;
}

Sample run_ours() {
  const auto engine = make_engine();
  const PinScope pinned(submitter_cpu());
  return time_rounds([&engine] {
    const auto result = engine->work_on_cpu(worker_cpu(), [] { return 1; });
    if (!result) refused(result.error().message().c_str());
  });
}

/// For a pool without such a call: a closure that ends by waking the submitter.
Sample run_pool(const PoolKind& kind) {
  const auto pool = kind.make({.cpus = {worker_cpu()}});
  const PinScope pinned(submitter_cpu());
  const auto session = pool->session(16);
  Flag done;
  return time_rounds([&] {
    done.reset();
    session->submit([](void* flag) { static_cast<Flag*>(flag)->set(); }, &done);
    session->settle();
    done.wait();
  });
}

}  // namespace

std::vector<Case> work_on_cpu_cases() {
  if (machine_cpus().size() < 2) return {};
  Case one;
  one.name = "work-on-cpu";
  one.title = "work_on_cpu round trip";
  one.unit = "ns";
  one.method = fmt::format("A thread on CPU {} has a function run on CPU {} and waits; median of {}.", submitter_cpu(),
                           worker_cpu(), kRounds);
  one.targets = {{.against = Target::Against::kFloor, .name = "two futex wakes", .ratio = 1.15}};
  one.contestants.push_back({.kind = Contestant::Kind::kOurs,
                             .name = "upci",
                             .settings = "Engine::work_on_cpu, a function that returns a value",
                             .run = run_ours});
  for (const PoolKind& peer : peer_pools()) {
    one.contestants.push_back(
        {.kind = Contestant::Kind::kPeer,
         .name = peer.name,
         .settings = peer.settings({.cpus = {worker_cpu()}}) + ", the closure wakes the submitter",
         .run = [peer] { return run_pool(peer); }});
  }
  one.contestants.push_back({.kind = Contestant::Kind::kFloor,
                             .name = "two futex wakes",
                             .settings = "both sides sleep in FUTEX_WAIT",
                             .run = [] { return futex_round_trip_floor(kRounds); }});
#ifdef BENCH_HAVE_RTE_RING
  one.contestants.push_back({.kind = Contestant::Kind::kFloor,
                             .name = "rte_ring pair",
                             .settings = "one ring each way, both sides poll and never sleep",
                             .run = [] { return rte_ring_round_trip_floor(kRounds); }});
#endif
  one.remark =
      "task_arena::execute would run the function in its caller where a slot is free, so oneTBB is given a closure, "
      "too.";
  return {std::move(one)};
}

}  // namespace bench
