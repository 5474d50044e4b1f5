// SPDX-License-Identifier: Apache-2.0
// The worker pool of one CPU and one priority: a worklist, the workers that serve it, and the rule that at most one of
// them runs items at a time unless the one that runs goes to sleep. Kernel: struct worker_pool.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "workqueue/engine.h"
#include "workqueue/event_source.h"
#include "workqueue/timer.h"
#include "workqueue/work_data.h"
#include "workqueue/worker.h"
#include "workqueue/workqueue.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;

/// A flush: a work of its own behind the one that is waited for. Lives on the flusher's stack (rule 15): its function is
/// the last to touch it.
struct FlushBarrier : Work {
  FlushBarrier() noexcept : Work(&complete) {}
  static void complete(Work& work) { static_cast<FlushBarrier&>(work).done.complete(); }
  Completion done;
};

/// Locking:  P = lock(); C = const after construction; A = atomic.
/// Lock order: no two pools' locks are ever held together.
class WorkerPool {
 public:
  static Result<std::unique_ptr<WorkerPool>> create(EngineState& engine, int number, Topology::Cpu cpu,
                                                    Workqueue::Priority priority);
  ~WorkerPool();

  int number() const noexcept { return number_; }
  int cpu() const noexcept { return cpu_.id; }
  EngineState& engine() const noexcept { return engine_; }
  platform::Mutex& lock() noexcept { return lock_; }

  // --- the policy, as small predicates; under lock() ---
  /// Items wait and nobody who counts is running.
  bool need_more_worker() const noexcept { return !worklist_empty() && nr_running_ == 0; }
  /// A worker may run items only while another one stands by for what comes meanwhile.
  bool may_start_working() const noexcept { return nr_idle_ > 0; }
  /// The caller, who counts, goes on when it is the only one running.
  bool keep_working() const noexcept { return !worklist_empty() && nr_running_ <= 1; }

  // --- works; under lock() ---
  /// Puts a work whose PENDING the caller owns at the end of the worklist. A pool that is stopping drops it.
  void insert(Work& work, int workqueue) noexcept;
  /// Takes a queued work off its list; the caller owns PENDING then.
  void remove(Work& work) noexcept;
  /// Lets `barrier` run right behind `target`, which is queued here or runs in `worker`.
  void insert_barrier(FlushBarrier& barrier, Work& target, Worker* worker) noexcept;
  /// The worker that runs this very work with this very function (rule 7), or nullptr.
  Worker* find_worker_executing(const Work& work) noexcept;
  static platform::ThreadId thread_of(const Worker& worker) noexcept { return worker.thread_id_; }
  static int current_workqueue(const Worker& worker) noexcept { return worker.current_workqueue_; }
  /// The worker no longer counts as running; it is replaced, and ends when its item does.
  void write_off(Worker& worker) noexcept;
  /// Wakes a worker when one is needed.
  void kick() noexcept;

  // --- timers; under lock() ---
  void arm_timer(DelayedWork& work, platform::TimePoint expires) noexcept;
  void disarm_timer(DelayedWork& work) noexcept;

  // --- event sources; takes lock() ---
  Result<void> add_source(EventSource& source, int fd);
  void remove_source(EventSource& source) noexcept;

  // --- life ---
  Result<void> create_worker();
  /// No item starts any more; what is pending is dropped. Wakes all workers so that they end.
  void stop() noexcept;
  /// Waits until all workers have ended; those that have not by the deadline are detached. Returns how many those are.
  std::size_t join(Deadline deadline);

  PoolStats stats();

 private:
  friend class Worker;
  WorkerPool(EngineState& engine, int number, Topology::Cpu cpu, Workqueue::Priority priority,
             platform::EventQueue events);

  bool worklist_empty() const noexcept { return worklist_.empty(); }

  void reap();  // under lock()

  // The worker's thread (worker_loop.cc). All take the lock where they need it; "under" means that it is held.
  void run(Worker& worker);
  bool idle(Worker& worker, std::unique_lock<platform::Mutex>& under);
  void manage_workers(std::unique_lock<platform::Mutex>& under);
  void come_home(std::unique_lock<platform::Mutex>& under);
  bool cpu_is_online() const;
  void move_to(Worker& worker, Work& work) noexcept;
  bool assign(Worker& worker, Work& work) noexcept;
  void process_scheduled(Worker& worker, std::unique_lock<platform::Mutex>& under);
  void process(Worker& worker, Work& work, std::unique_lock<platform::Mutex>& under);
  void start_counting(Worker& worker) noexcept;
  void stop_counting(Worker& worker) noexcept;
  void serve(std::uint64_t token, std::unique_lock<platform::Mutex>& under);
  void expire_timers(std::unique_lock<platform::Mutex>& under);
  void reset_alarm() noexcept;

  EngineState& engine_;                 // C
  const int number_;                    // C
  const Topology::Cpu cpu_;             // C
  const Workqueue::Priority priority_;  // C
  platform::EventQueue events_;         // C (thread-safe itself): where idle workers wait
  platform::Mutex lock_;
  WorkList worklist_;                             // P
  std::vector<std::unique_ptr<Worker>> workers_;  // P: all that were ever created
  Worker* busy_ = nullptr;                        // P: those that run an item, linked through next_busy_
  unsigned nr_idle_ = 0;                          // P: those that wait, or were just created and will
  unsigned nr_running_ = 0;                       // P: those that count as running: busy, awake, not written off
  bool managing_ = false;                         // P: somebody creates a worker
  bool stopping_ = false;                         // P
  TimerHeap timers_;                              // P
  std::unordered_map<std::uint64_t, EventSource*> sources_;  // P: by token
  std::uint64_t next_token_ = 1;                             // P
  platform::Atomic<std::uint32_t> source_ended_{0};          // A: counts ends of top halves; remove_source sleeps on it
  PoolStats stats_;                                          // P
  bool away_ = false;                                        // P: the CPU is offline, its workers run elsewhere
};

}  // namespace upci::inline UPCI_VARIANT
