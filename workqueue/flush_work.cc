// SPDX-License-Identifier: Apache-2.0
// Waiting for one work. Kernel: start_flush_work, check_flush_dependency.
#include <fmt/format.h>

#include <mutex>

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

/// Waits for the last queueing of the work and its run. False when there is nothing to wait for.
bool EngineState::flush(Work& work, bool for_cancel) noexcept {
  dependencies_.note_wait(work, for_cancel, for_cancel ? "cancel_work_sync" : "flush_work");
  WorkerPool* pool = this->pool(WorkAccess::pool_of(WorkAccess::data(work).load(std::memory_order_acquire)));
  if (pool == nullptr) return false;
  FlushBarrier barrier;
  QueueState* target = nullptr;
  bool itself = false;
  {
    std::lock_guard guard(pool->lock());
    pool->take_inbox();
    const std::uint64_t data = WorkAccess::data(work).load(std::memory_order_relaxed);
    Worker* worker = nullptr;
    const PoolWorkqueue* pwq = nullptr;
    if (!WorkAccess::is_in(work, pool->number())) {
      worker = pool->find_worker_executing(work);
      if (worker == nullptr) return false;  // done, or queued elsewhere after this call began
      itself = worker == Worker::current();
      pwq = WorkerPool::current_pwq(*worker);
    } else {
      pwq = pool->pwq_of(WorkAccess::workqueue_of(data));
    }
    if (pwq != nullptr) target = pwq->queue;
    if (!itself) pool->insert_barrier(barrier, work, worker);
  }
  if (itself) {
    report_caller(Report::Kind::kSelfFlush, "a work waits for itself; it would wait for ever, so it does not");
    return false;
  }
  if (!for_cancel) check_flush_dependency(target, "flush_work");
  barrier.done.wait();
  return true;
}

/// Rule 28: who must progress without memory may not wait for who need not.
void EngineState::check_flush_dependency(QueueState* target, const char* what) const {
  const Worker* worker = Worker::current();
  const QueueState* waiter = worker != nullptr ? worker->current_queue() : nullptr;
  if (target == nullptr || waiter == nullptr || target->has(kWqMemReclaim) || !waiter->has(kWqMemReclaim)) return;
  report_caller(
      Report::Kind::kFlushDependency,
      fmt::format("{}: an item of '{}', which has a rescuer, waits for '{}', which has none: without new threads "
                  "neither progresses; give '{}' kWqMemReclaim",
                  what, waiter->name(), target->name(), target->name()));
}

bool Engine::flush_work(Work& work) noexcept { return state_->flush(work, false); }

}  // namespace upci::inline UPCI_VARIANT
