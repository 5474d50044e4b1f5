// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "base/wait.h"
#include "workqueue/cpu_touch.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;
class Worker;
class WorkerPool;

/// The engine's own thread. It does what the kernel has timers and its scheduler's tick for: finds threads for pools that
/// lack one and calls rescuers meanwhile, looks after items that compute for too long, after pools that do not progress,
/// after workers that sleep unannounced where nothing else tells, after watches that have lapsed, and after CPUs that come and
/// go. While no item runs and none waits, it sleeps. Kernel: maybe_create_worker, wq_worker_tick, wq_watchdog_timer_fn, kthreadd.
///
/// A = atomic; O = its own thread only.
class Overseer {
 public:
  explicit Overseer(EngineState& engine) noexcept : engine_(engine) {}
  /// Errors: kSystem.
  Result<void> start();
  void stop() noexcept;
  /// Waits for its end. False when it has not ended by the deadline.
  bool join(Deadline deadline);

  /// Something needs looking after now. Any context.
  void call() noexcept;
  /// Asked by workers when they begin to run: the overseer ticks while anybody does.
  void note_running() noexcept {
    if (parked_.load(std::memory_order_seq_cst)) [[unlikely]]
      call();
  }
  /// A worker's watch has lapsed: its sleep would go unnoticed until the overseer looks. Under its pool's lock.
  void note_lapse() noexcept {
    if (!looks_soon_.load(std::memory_order_seq_cst)) call();
  }

 private:
  struct HogRecord {
    std::uint64_t hits = 0;
    std::uint64_t report_at = 4;  // then twice as many each time
  };
  struct Hog {
    WorkFunction function;
    const Work* work = nullptr;  // only compared
    platform::ThreadId thread = 0;
    std::uint64_t hits = 0;
    std::string where;  // of which workqueue, in which worker
  };

  void run();
  /// True while there is something to look after.
  bool tick();
  bool tick(WorkerPool& pool, platform::TimePoint now);
  void look_for_hogs(WorkerPool& pool);
  void look_for_sleepers(WorkerPool& pool);
  void look_for_lapses(WorkerPool& pool);
  void look_for_stall(WorkerPool& pool, platform::TimePoint now);
  void find_worker(WorkerPool& pool);
  void note_hog(const WorkerPool& pool, const Worker& worker, platform::Nanoseconds used);
  void report_hogs();
  void ask_cpu(WorkerPool& pool);
  void report_stall(WorkerPool& pool, platform::Nanoseconds since);

  EngineState& engine_;
  platform::Thread thread_;                   // C once started
  Completion exited_;                         // its own rules
  platform::Atomic<std::uint32_t> bell_{0};   // A: counts calls
  platform::Atomic<bool> parked_{false};      // A: it sleeps until called
  platform::Atomic<bool> stopping_{false};    // A
  platform::Atomic<bool> looks_soon_{false};  // A: a watch was still lapsed at this tick
  platform::TimePoint cpus_seen_at_{};        // O
  std::unique_ptr<CpuTouch> touch_;           // O: made when a pool is first suspected to be stalled
  std::map<std::uintptr_t, HogRecord> hogs_;  // O: by function
  std::vector<Hog> found_hogs_;               // O: at this tick
};

}  // namespace upci::inline UPCI_VARIANT
