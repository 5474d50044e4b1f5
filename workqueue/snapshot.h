// SPDX-License-Identifier: Apache-2.0
// An engine as it is at a moment, for tools. The fields are those of the kernel's wq_monitor.py and wq_dump.py.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "workqueue/engine.h"

namespace upci::inline UPCI_VARIANT {

struct WorkerSnapshot {
  std::string name;           // the thread's name
  std::int64_t thread = 0;    // its id
  std::string function = {};  // of the item that it runs
  std::string workqueue;      // the same; empty for a flush barrier
  std::string description;    // set_worker_desc
  bool sleeping = false;      // the item sleeps
  bool counts = false;        // it is one of the pool's running ones
};

struct PoolSnapshot {
  int number = 0;
  std::string kind;  // "percpu", "bh", "unbound"
  int cpu = -1;      // -1: unbound
  std::string cpus;  // unbound: where its workers may run
  std::string pod;   // unbound: where they begin
  int nice = 0;
  int node = -1;
  bool cpu_away = false;
  unsigned workers = 0;
  unsigned idle = 0;
  int running = 0;                          // workers that count
  std::uint64_t waiting = 0;                // items on the worklist
  std::chrono::nanoseconds watchdog_age{};  // since its items last made progress; 0 when none waits
  PoolStats stats;
  std::vector<WorkerSnapshot> busy;
};

struct PwqSnapshot {
  int pool = 0;
  int active = 0;
  int in_flight = 0;
  std::uint64_t inactive = 0;
};

struct WorkqueueSnapshot {
  int number = 0;
  std::string name;
  WqFlags flags = 0;
  bool ordered = false;
  bool frozen = false;
  bool draining = false;
  int max_active = 0;  // as asked for
  int min_active = 0;  // unbound
  WorkqueueAttrs attrs;
  // wq_monitor.py: total, infl, CPUtime, CPUitsv, CMW/RPR, mayday, rescued
  std::uint64_t total = 0;
  std::uint64_t in_flight = 0;
  std::chrono::nanoseconds cpu_time{};
  std::uint64_t cpu_intensive = 0;
  std::uint64_t cm_wakeups = 0;
  std::uint64_t repatriated = 0;
  std::uint64_t mayday = 0;
  std::uint64_t rescued = 0;
  std::vector<PwqSnapshot> pwqs;
};

/// Durations of one kind.
struct LatencySummary {
  std::uint64_t count = 0;
  std::chrono::nanoseconds p50{};  // half of them took less; interpolated within an eighth or so
  std::chrono::nanoseconds p90{};
  std::chrono::nanoseconds p99{};
  std::chrono::nanoseconds max{};
  std::vector<std::uint64_t> octaves;  // [i]: how many took 2^i ns or more, and less than 2^(i+1); 0 ns counts in [0]
};

/// Of all items with this function, since measuring began.
struct FunctionLatency {
  std::string function = {};
  LatencySummary wait = {};  // from the queueing to the start
  LatencySummary run = {};   // from the start to the end
};

struct EngineSnapshot {
  std::string tier;             // how blocking is noticed
  std::string tier_note;        // why no better one is
  std::string unbound_cpumask;  // where unbound queues may run
  std::vector<PoolSnapshot> pools;
  std::vector<WorkqueueSnapshot> workqueues;
  bool measures_latency = false;
  std::vector<FunctionLatency> latencies;  // what was measured, also when that has ended

  /// Takes it. Any thread, no lock held; each pool and queue is seen at its own moment.
  static EngineSnapshot take(EngineState& engine, bool names);
};

}  // namespace upci::inline UPCI_VARIANT
