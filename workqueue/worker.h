// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/blocking.h"
#include "base/platform.h"
#include "base/wait.h"
#include "workqueue/work.h"
#include "workqueue/work_data.h"

namespace upci::inline UPCI_VARIANT {

class WorkerPool;

/// A pool's thread. Its loop is WorkerPool::run; the kernel's struct worker.
///
/// Locking:  P = the pool's lock; S = written by the worker itself, read by itself; C = const once the thread runs.
class Worker final : public BlockingObserver {
 public:
  explicit Worker(WorkerPool& pool) noexcept : pool_(pool) {}

  WorkerPool& pool() const noexcept { return pool_; }
  /// The work that it runs; its own thread only.
  const Work* current_work() const noexcept { return current_work_; }
  /// The worker whose thread is calling, or nullptr.
  static Worker* current() noexcept;

  // BlockingObserver: the item that this worker runs is about to sleep in a framework wait, or goes on after it.
  void about_to_block() noexcept override;
  void resumed() noexcept override;

 private:
  friend class WorkerPool;

  WorkerPool& pool_;                        // C
  platform::Thread thread_;                 // C
  platform::ThreadId thread_id_ = 0;        // P
  Completion exited_;                       // its own rules; the thread's last act
  WorkList scheduled_;                      // P: works that only this worker may run, before it looks at the worklist
  const Work* current_work_ = nullptr;      // P to write; S to read. Only compared: the work may be gone (rule 6)
  WorkFunction current_function_{nullptr};  // P: a copy, for the same reason
  int current_workqueue_ = -1;              // P
  Worker* next_busy_ = nullptr;             // P
  bool counts_ = false;                     // P: this worker is one of the pool's nr_running
  bool sleeping_ = false;                   // P: the item sleeps in a framework wait
  bool written_off_ = false;  // P: a deadline gave it up; it never counts again, and ends when its item does
};

}  // namespace upci::inline UPCI_VARIANT
