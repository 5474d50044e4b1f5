// SPDX-License-Identifier: Apache-2.0
// How long after it was queued an item starts: its worker asleep, its worker spinning, its worker busy with another item.
#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/clock.h"
#include "bench/engine/floors/floors.h"
#include "bench/engine/peers/pool.h"
#include "bench/engine/statistics.h"
#include "bench/engine/system_calls.h"

namespace bench {

namespace {

constexpr int kAsleepItems = 300;
constexpr double kAsleepGap = 300e3;  // ns: whoever does not spin is asleep after that
constexpr int kSpinItems = 2000;
constexpr double kSpinGap = 20e3;  // ns: the worker is idle, but within its budget
constexpr std::chrono::nanoseconds kSpinBudget(100'000);
constexpr int kBusyItems = 3000;

struct Started {
  std::atomic<std::uint64_t> at{0};
  static void mark(void* self) { static_cast<Started*>(self)->at.store(ticks(), std::memory_order_release); }
};

/// The worker is idle when each item comes. The submitter waits awake, on a CPU of its own.
Sample run_idle(const PoolKind& kind, std::chrono::nanoseconds spin, int items, double gap) {
  const auto pool = kind.make({.cpus = {worker_cpu()}, .spin = spin});
  const PinScope pinned(submitter_cpu());  // after it: a pool of a pinned thread might have one CPU only
  const auto session = pool->session(16);
  std::vector<double> latencies;
  latencies.reserve(static_cast<std::size_t>(items));
  Started started;
  spin_for(gap);
  const Meter meter;
  for (int i = 0; i < items; i++) {
    started.at.store(0, std::memory_order_relaxed);
    spin_for(gap);
    const std::uint64_t queued = ticks();
    session->submit(&Started::mark, &started);
    std::uint64_t at = 0;
    while ((at = started.at.load(std::memory_order_acquire)) == 0) relax();
    latencies.push_back(nanoseconds(queued, at));
    session->settle();
  }
  Sample sample;
  sample.usage = meter.read();
  sample.value = median(latencies);
  sample.more["p99 ns"] = percentile(latencies, 0.99);
  return sample;
}

/// The worker runs an item, which ends once it sees that the next one has been queued.
Sample run_busy(const PoolKind& kind) {
  const auto pool = kind.make({.cpus = {worker_cpu()}});
  const PinScope pinned(submitter_cpu());  // after it: a pool of a pinned thread might have one CPU only
  const auto session = pool->session(16);
  struct Busy {
    std::atomic<bool> running{false};
    alignas(64) std::atomic<bool> queued{false};
    alignas(64) std::uint64_t ended = 0;
    alignas(64) std::atomic<std::uint64_t> started{0};
  } busy;
  const Function first = [](void* context) {
    auto& self = *static_cast<Busy*>(context);
    self.running.store(true, std::memory_order_release);
    while (!self.queued.load(std::memory_order_acquire)) relax();
    self.ended = ticks();
  };
  const Function second = [](void* context) {
    static_cast<Busy*>(context)->started.store(ticks(), std::memory_order_release);
  };
  std::vector<double> gaps;
  std::vector<double> submits;
  std::uint64_t with_system_calls = 0;
  const Meter meter;
  for (int i = 0; i < kBusyItems; i++) {
    busy.running.store(false);
    busy.queued.store(false);
    busy.started.store(0);
    session->submit(first, &busy);
    while (!busy.running.load(std::memory_order_acquire)) relax();
    // In half of the rounds system calls are watched, which takes time; in the others time is taken.
    if (i % 2 == 0) {
      const std::uint64_t before = ticks();
      session->submit(second, &busy);
      submits.push_back(nanoseconds(before, ticks()));
    } else {
      const SystemCallWatch watch;
      session->submit(second, &busy);
      if (watch.seen()) with_system_calls++;
    }
    spin_for(200);  // its stores have left the submitter's CPU before the item ends
    busy.queued.store(true, std::memory_order_release);
    std::uint64_t started = 0;
    while ((started = busy.started.load(std::memory_order_acquire)) == 0) relax();
    if (i % 2 == 0) gaps.push_back(nanoseconds(busy.ended, started));
    session->settle();
  }
  Sample sample;
  sample.usage = meter.read();
  sample.value = median(gaps);
  sample.more["p99 ns"] = percentile(gaps, 0.99);
  sample.more["submit ns"] = median(submits);
  sample.more["submits with a system call %"] =
      SystemCallWatch::available() ? 200.0 * static_cast<double>(with_system_calls) / kBusyItems : NAN;
  return sample;
}

Contestant idle_contestant(Contestant::Kind role, const PoolKind& kind) {
  return {.kind = role, .name = kind.name, .settings = kind.settings({.cpus = {worker_cpu()}}), .run = [kind] {
            return run_idle(kind, {}, kAsleepItems, kAsleepGap);
          }};
}

Case asleep() {
  Case one;
  one.name = "idle-asleep";
  one.title = "idle worker asleep, queue -> start";
  one.unit = "ns";
  one.method = fmt::format("CPU {} submits every {} us to one worker on CPU {}; median of {} items.", submitter_cpu(),
                           kAsleepGap / 1e3, worker_cpu(), kAsleepItems);
  one.targets = {{.against = Target::Against::kFloor, .ratio = 1.10},
                 {.against = Target::Against::kPeer, .name = "asio", .ratio = 1.0},
                 {.against = Target::Against::kPeer, .name = "GThreadPool", .ratio = 1.0}};
  one.contestants.push_back(idle_contestant(Contestant::Kind::kOurs, our_pool()));
  for (const PoolKind& peer : peer_pools()) one.contestants.push_back(idle_contestant(Contestant::Kind::kPeer, peer));
  one.contestants.push_back(
      {.kind = Contestant::Kind::kFloor,
       .name = "futex wake",
       .settings = "FUTEX_WAKE to a thread in FUTEX_WAIT, the same pair of CPUs and the same gaps",
       .run = [] { return futex_wake_floor(kAsleepItems, kAsleepGap); }});
  one.remark = "oneTBB's worker spins before it sleeps; see its CPU seconds.";
  return one;
}

Case spinning() {
  Case one;
  one.name = "idle-spin";
  one.title = "idle worker with a spin budget, queue -> start";
  one.unit = "ns";
  one.method = fmt::format("As above, every {} us, {} items; our budget is {} us.", kSpinGap / 1e3, kSpinItems,
                           kSpinBudget.count() / 1000);
  one.targets = {{.against = Target::Against::kPeer, .name = "oneTBB", .ratio = 1.0},
                 {.against = Target::Against::kPeer, .name = "oneTBB", .of = "cpu_seconds", .ratio = 1.0}};
  const PoolKind ours = our_pool();
  one.contestants.push_back({.kind = Contestant::Kind::kOurs,
                             .name = ours.name,
                             .settings = fmt::format("Engine::Options::spin = {} us", kSpinBudget.count() / 1000),
                             .run = [ours] { return run_idle(ours, kSpinBudget, kSpinItems, kSpinGap); }});
  for (const PoolKind& peer : peer_pools()) {
    one.contestants.push_back({.kind = Contestant::Kind::kPeer,
                               .name = peer.name,
                               .settings = peer.settings({.cpus = {worker_cpu()}}),
                               .run = [peer] { return run_idle(peer, {}, kSpinItems, kSpinGap); }});
  }
  one.contestants.push_back({.kind = Contestant::Kind::kFloor,
                             .name = "cache line",
                             .settings = "one way between the two CPUs, both awake",
                             .run = [] { return cache_line_floor(); }});
  one.remark = "The submitter spins, too: one CPU second a second is its own.";
  return one;
}

Case busy() {
  Case one;
  one.name = "busy";
  one.title = "busy worker, end of the running item -> start of the queued one";
  one.unit = "ns";
  one.method = fmt::format(
      "CPU {} queues while the worker on CPU {} runs an item, which then ends; median of {} gaps. The time of the "
      "submit, "
      "and how many submits made a system call, are taken apart from each other.",
      submitter_cpu(), worker_cpu(), kBusyItems / 2);
  one.targets = {{.against = Target::Against::kFloor, .ratio = 3.0},
                 {.against = Target::Against::kOwnFigure, .of = "submits with a system call %", .ratio = 0.0}};
  const auto add = [&one](Contestant::Kind role, const PoolKind& kind) {
    one.contestants.push_back(
        {.kind = role, .name = kind.name, .settings = kind.settings({.cpus = {worker_cpu()}}), .run = [kind] {
           return run_busy(kind);
         }});
  };
  add(Contestant::Kind::kOurs, our_pool());
  for (const PoolKind& peer : peer_pools()) add(Contestant::Kind::kPeer, peer);
  one.contestants.push_back({.kind = Contestant::Kind::kFloor,
                             .name = "cache line",
                             .settings = "one way between the two CPUs, both awake",
                             .run = [] { return cache_line_floor(); }});
  return one;
}

}  // namespace

std::vector<Case> start_latency_cases() {
  std::vector<Case> cases;
  if (machine_cpus().size() < 2) return cases;
  cases.push_back(asleep());
  cases.push_back(spinning());
  cases.push_back(busy());
  return cases;
}

}  // namespace bench
