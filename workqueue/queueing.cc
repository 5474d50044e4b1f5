// SPDX-License-Identifier: Apache-2.0
// queue_work and its kin: taking PENDING, choosing a pool. Kernel: queue_work_on, queue_work_node, queue_delayed_work_on.
#include <mutex>

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

namespace {

/// Takes PENDING; false when somebody has it, or the work is disabled. Each path is a read-modify-write: what a losing
/// caller wrote before is then seen by the run that clears PENDING (rule 2; pairs with the clear in WorkerPool::process).
bool take_pending(Work& work) noexcept {
  auto& data = WorkAccess::data(work);
  std::uint64_t old = data.load(std::memory_order_relaxed);
  for (;;) {
    const bool free = (old & (WorkAccess::kPending | WorkAccess::kDisabledMask)) == 0;
    const std::uint64_t wanted = free ? old | WorkAccess::kPending : old;
    if (data.compare_exchange_weak(old, wanted, std::memory_order_seq_cst, std::memory_order_relaxed)) return free;
  }
}

}  // namespace

bool Engine::queue_work_on(int cpu, Workqueue& wq, Work& work) noexcept {
  const int target = cpu == kAnyCpu ? state_->local_cpu() : cpu;
  if (state_->topology().find(target) == nullptr) return false;
  if (!take_pending(work)) return false;
  state_->insert(target, wq, work);
  return true;
}

bool Engine::queue_work_node(int node, Workqueue& wq, Work& work) noexcept {
  return queue_work_on(state_->cpu_of_node(node), wq, work);
}

bool Engine::queue_delayed_work_on(int cpu, Workqueue& wq, DelayedWork& work, std::chrono::nanoseconds delay) noexcept {
  const int target = cpu == kAnyCpu ? state_->local_cpu() : cpu;
  if (state_->topology().find(target) == nullptr) return false;
  if (!take_pending(work.work())) return false;
  if (delay <= std::chrono::nanoseconds::zero()) {
    state_->insert(target, wq, work.work());
    return true;
  }
  WorkAccess::workqueue(work) = &wq;
  WorkAccess::cpu(work) = target;
  // Timers live in the normal pool of the CPU, whose idle worker waits for their alarm.
  WorkerPool* pool = state_->pool_for(target, state_->system_wq());
  auto& timer_pool = WorkAccess::timer_pool(work);
  if (WorkerPool* old = timer_pool.load(std::memory_order_relaxed); old != nullptr && old != pool) {
    std::lock_guard guard(old->lock());
    timer_pool.store(nullptr, std::memory_order_relaxed);
  }
  std::lock_guard guard(pool->lock());
  timer_pool.store(pool, std::memory_order_release);
  pool->arm_timer(work, Deadline::after(delay).when());
  return true;
}

}  // namespace upci::inline UPCI_VARIANT
