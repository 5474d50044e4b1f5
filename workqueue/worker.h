// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "base/blocking.h"
#include "base/platform.h"
#include "base/wait.h"
#include "workqueue/pool_workqueue.h"
#include "workqueue/work.h"
#include "workqueue/work_data.h"

namespace upci::inline UPCI_VARIANT {

class WorkerPool;

/// A pool's thread, or a rescuer's. Its loop is WorkerPool::run; the kernel's struct worker.
///
/// Locking:  P = the lock of `pool_`; S = written by the worker itself, read by itself; C = const once the thread runs.
class Worker final : public BlockingObserver {
 public:
  Worker(WorkerPool* pool, unsigned id, bool rescuer) noexcept : pool_(pool), id_(id), rescuer_(rescuer) {}

  /// A rescuer's changes; only its own thread may ask then.
  WorkerPool& pool() const noexcept { return *pool_; }
  /// The work that it runs; its own thread only.
  const Work* current_work() const noexcept { return current_work_; }
  /// Meaningful while current_work() is not null.
  const WorkFunction& current_function() const noexcept { return current_function_; }
  /// An event source: its descriptor and its function's address.
  struct Serving {
    int fd = -1;
    std::uintptr_t function = 0;
  };
  /// The event source that it serves, while the engine keeps who queues what; fd -1: none. As current_work().
  const Serving& serving() const noexcept { return serving_; }
  QueueState* current_queue() const noexcept { return current_pwq_ != nullptr ? current_pwq_->queue : nullptr; }
  bool is_rescuer() const noexcept { return rescuer_; }
  /// The worker whose thread is calling, or nullptr.
  static Worker* current() noexcept;

  /// What its item is about, until that ends; its own thread only.
  void describe(std::string text);

  // BlockingObserver: the item that this worker runs is about to sleep in a framework wait, or goes on after it.
  void about_to_block() noexcept override;
  void resumed() noexcept override;
  // The same: what its item completes and waits for, while the engine tracks Completions.
  std::uint32_t completer() noexcept override;
  void waited_for(std::uint32_t completer) noexcept override;
  void track_completions(bool on) noexcept { tracks_completions_ = on; }

 private:
  friend class WorkerPool;
  friend class Rescuer;
  friend class Overseer;
  friend class EngineState;

  WorkerPool* pool_;                        // C; a rescuer's: S, under both pools' locks in turn
  const unsigned id_;                       // C: the lowest number that no other worker of its pool has
  const bool rescuer_;                      // C
  platform::Thread thread_;                 // P, and no lock once it is made
  bool made_ = false;                       // P: whoever makes it has done so, or could not
  bool passed_by_ = false;                  // P: the pool ended before: nobody joins it
  platform::ThreadId thread_id_ = 0;        // P
  Completion exited_;                       // its own rules; the thread's last act
  platform::Atomic<bool> inside_{false};    // A: it is in an item's function, and not on its way in or out
  WorkList scheduled_;                      // P: works that only this worker may run, before it looks at the worklist
  const Work* current_work_ = nullptr;      // P to write; S to read. Only compared: the work may be gone (rule 6)
  WorkFunction current_function_{nullptr};  // P: a copy, for the same reason
  PoolWorkqueue* current_pwq_ = nullptr;    // P to write; S to read. nullptr: idle, or a flush barrier
  int current_color_ = 0;                   // P
  Serving serving_;                         // S
  std::uint64_t items_ = 0;                 // P: counts items, so that a tick knows whether it still sees the same one
  std::string description_;                 // P: set_worker_desc, until the item ends
  Worker* next_busy_ = nullptr;             // P
  std::optional<platform::SwitchWatch> watch_;  // P to make and end; armed and disarmed by the worker itself
  std::optional<platform::ThreadProbe> probe_;  // P
  std::uint64_t token_ = 0;                     // P: of its watch in the pool's event queue
  std::uint64_t ticked_item_ = 0;               // P: the item that the overseer saw at its last tick
  platform::Nanoseconds cpu_at_item_{};         // P: CPU time of the thread when that item was first seen
  platform::Nanoseconds cpu_at_tick_{};         // P: and at the last tick
  bool counts_ = false;                         // P: this worker is one of the pool's nr_running
  bool sleeping_ = false;                       // P: the item sleeps
  bool unannounced_ = false;    // P: the same, and no framework wait told so: nobody will tell when it wakes
  bool loose_ = false;          // S: not pinned to its CPU, which is away
  bool cpu_intensive_ = false;  // P: by its queue's flag, or since it passed the hog threshold
  bool rebound_ = false;        // P: its CPU came or went in mid-item: it does not count until the item ends
  bool written_off_ = false;    // P: a deadline gave it up; it never counts again, and ends when its item does
};

}  // namespace upci::inline UPCI_VARIANT
