// SPDX-License-Identifier: Apache-2.0
// Cancelling, disabling, flushing. Kernel: work_grab_pending, __cancel_work_sync, start_flush_work.
#include <mutex>

#include "base/log.h"
#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

namespace {

/// Takes the work's PENDING over from its armed timer.
bool take_from_timer(DelayedWork& work) noexcept {
  auto& timer_pool = WorkAccess::timer_pool(work);
  WorkerPool* pool = timer_pool.load(std::memory_order_acquire);
  if (pool == nullptr) return false;
  std::lock_guard guard(pool->lock());
  // Still this pool: then its lock protects the timer. Otherwise somebody has armed it elsewhere meanwhile.
  if (timer_pool.load(std::memory_order_relaxed) != pool || !WorkAccess::timer(work).armed) return false;
  pool->disarm_timer(work);
  return true;
}

/// Takes a pending work's PENDING over from the list that it is on.
bool take_from_list(EngineState& state, Work& work, std::uint64_t seen) noexcept {
  WorkerPool* pool = state.pool(WorkAccess::pool_of(seen));
  std::lock_guard guard(pool->lock());
  const std::uint64_t now = WorkAccess::data(work).load(std::memory_order_relaxed);
  if ((now & WorkAccess::kQueued) == 0 || WorkAccess::pool_of(now) != pool->number()) return false;
  pool->remove(work);
  return true;
}

/// Makes a pending work idle. True when it was pending. Between PENDING and the list (or the timer) lie a few instructions
/// of another thread; only for these it tries again.
bool take_back(EngineState& state, Work& work, DelayedWork* delayed) noexcept {
  for (unsigned round = 1;; round++) {
    const std::uint64_t seen = WorkAccess::data(work).load(std::memory_order_acquire);
    if ((seen & WorkAccess::kPending) == 0) return false;
    if ((delayed != nullptr && take_from_timer(*delayed)) ||
        ((seen & WorkAccess::kQueued) != 0 && take_from_list(state, work, seen))) {
      WorkAccess::data(work).fetch_and(~WorkAccess::kPending, std::memory_order_release);
      return true;
    }
    if (round % 64 != 0) {
      platform::relax();
    } else {
      platform::this_thread::yield();  // that thread may have been preempted on this very CPU
    }
  }
}

void raise_disabled(Work& work) noexcept {
  auto& data = WorkAccess::data(work);
  std::uint64_t old = data.load(std::memory_order_relaxed);
  do {
    if ((old & WorkAccess::kDisabledMask) == WorkAccess::kDisabledMask) {
      log::error("disable_work: 65535 levels deep; not raised further");
      return;
    }
  } while (!data.compare_exchange_weak(old, old + WorkAccess::kDisabledOne, std::memory_order_seq_cst,
                                       std::memory_order_relaxed));
}

bool lower_disabled(Work& work) noexcept {
  auto& data = WorkAccess::data(work);
  std::uint64_t old = data.load(std::memory_order_relaxed);
  do {
    if ((old & WorkAccess::kDisabledMask) == 0) {
      log::warn("enable_work without a disable_work before it");
      return false;
    }
  } while (!data.compare_exchange_weak(old, old - WorkAccess::kDisabledOne, std::memory_order_seq_cst,
                                       std::memory_order_relaxed));
  return (old & WorkAccess::kDisabledMask) == WorkAccess::kDisabledOne;
}

bool disable(EngineState& state, Work& work, DelayedWork* delayed) noexcept {
  // First the depth, then the taking back: a queueing that came before is found, one that comes after is refused.
  raise_disabled(work);
  return take_back(state, work, delayed);
}

/// Waits for the last queueing of the work and its run. False when there is nothing to wait for.
bool flush(EngineState& state, Work& work) noexcept {
  WorkerPool* pool = state.pool(WorkAccess::pool_of(WorkAccess::data(work).load(std::memory_order_acquire)));
  if (pool == nullptr) return false;
  FlushBarrier barrier;
  {
    std::lock_guard guard(pool->lock());
    const std::uint64_t data = WorkAccess::data(work).load(std::memory_order_relaxed);
    Worker* worker = nullptr;
    if ((data & WorkAccess::kQueued) == 0 || WorkAccess::pool_of(data) != pool->number()) {
      worker = pool->find_worker_executing(work);
      if (worker == nullptr) return false;  // done, or queued elsewhere after this call began
      if (worker == Worker::current()) {
        log::error("a work waits for itself; it would wait for ever, so it does not");
        return false;
      }
    }
    pool->insert_barrier(barrier, work, worker);
  }
  barrier.done.wait();
  return true;
}

bool cancel_sync(EngineState& state, Work& work, DelayedWork* delayed) noexcept {
  // Disabled meanwhile, so that a work that queues itself comes to an end (rule 20). Depths add up, so that callers do
  // not undo each other or an outer disable (rule 21).
  const bool was_pending = disable(state, work, delayed);
  flush(state, work);
  lower_disabled(work);
  return was_pending;
}

}  // namespace

bool Engine::cancel_work(Work& work) noexcept { return take_back(*state_, work, nullptr); }
bool Engine::cancel_delayed_work(DelayedWork& work) noexcept { return take_back(*state_, work.work(), &work); }

bool Engine::disable_work(Work& work) noexcept { return disable(*state_, work, nullptr); }
bool Engine::disable_delayed_work(DelayedWork& work) noexcept { return disable(*state_, work.work(), &work); }
bool Engine::enable_work(Work& work) noexcept { return lower_disabled(work); }
bool Engine::enable_delayed_work(DelayedWork& work) noexcept { return lower_disabled(work.work()); }

bool Engine::flush_work(Work& work) noexcept { return flush(*state_, work); }

bool Engine::cancel_work_sync(Work& work) noexcept { return cancel_sync(*state_, work, nullptr); }
bool Engine::cancel_delayed_work_sync(DelayedWork& work) noexcept { return cancel_sync(*state_, work.work(), &work); }

bool Engine::disable_work_sync(Work& work) noexcept {
  const bool was_pending = disable(*state_, work, nullptr);
  flush(*state_, work);
  return was_pending;
}

bool Engine::disable_delayed_work_sync(DelayedWork& work) noexcept {
  const bool was_pending = disable(*state_, work.work(), &work);
  flush(*state_, work.work());
  return was_pending;
}

}  // namespace upci::inline UPCI_VARIANT
