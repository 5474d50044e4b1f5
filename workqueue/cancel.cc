// SPDX-License-Identifier: Apache-2.0
// Cancelling and disabling. Kernel: work_grab_pending, __cancel_work, __cancel_work_sync, enable_work.
#include <mutex>

#include "workqueue/engine_state.h"
#include "workqueue/grab.h"

namespace upci::inline UPCI_VARIANT {

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

namespace {

/// Takes a pending work's PENDING over from the list that it is on.
bool take_from_list(EngineState& state, Work& work, std::uint64_t seen) noexcept {
  WorkerPool* pool = state.pool(WorkAccess::pool_of(seen));
  if (pool == nullptr) return false;
  FollowUp next;
  {
    std::lock_guard guard(pool->lock());
    pool->take_inbox();
    if (!WorkAccess::is_in(work, pool->number())) return false;
    next = pool->remove(work);
  }
  if (next) state.follow_up(next);
  return true;
}

/// Between PENDING and the inbox (or the timer) lie a few instructions of another thread: wait for it.
void wait_a_moment(unsigned round) noexcept {
  if (round % 64 != 0) {
    platform::relax();
  } else {
    platform::this_thread::yield();  // that thread may have been preempted on this very CPU
  }
}

}  // namespace

Grabbed grab_pending(EngineState& state, Work& work, DelayedWork* delayed) noexcept {
  auto& data = WorkAccess::data(work);
  for (unsigned round = 1;; round++) {
    std::uint64_t seen = data.load(std::memory_order_acquire);
    if ((seen & WorkAccess::kPending) == 0) {
      const bool disabled = (seen & WorkAccess::kDisabledMask) != 0;
      const std::uint64_t wanted = disabled ? seen : seen | WorkAccess::kPending;
      if (data.compare_exchange_weak(seen, wanted, std::memory_order_seq_cst, std::memory_order_relaxed)) {
        return disabled ? Grabbed::kDisabled : Grabbed::kWasIdle;
      }
      continue;
    }
    if ((delayed != nullptr && take_from_timer(*delayed)) || take_from_list(state, work, seen)) {
      return Grabbed::kWasPending;
    }
    wait_a_moment(round);
  }
}

bool take_back(EngineState& state, Work& work, DelayedWork* delayed) noexcept {
  for (unsigned round = 1;; round++) {
    const std::uint64_t seen = WorkAccess::data(work).load(std::memory_order_acquire);
    if ((seen & WorkAccess::kPending) == 0) return false;
    if ((delayed != nullptr && take_from_timer(*delayed)) || take_from_list(state, work, seen)) {
      release_pending(work);
      return true;
    }
    wait_a_moment(round);
  }
}

namespace {

void raise_disabled(EngineState& state, Work& work) noexcept {
  auto& data = WorkAccess::data(work);
  std::uint64_t old = data.load(std::memory_order_relaxed);
  do {
    if ((old & WorkAccess::kDisabledMask) == WorkAccess::kDisabledMask) {
      state.report_caller(Report::Kind::kMisuse, "disable_work: 65535 levels deep; not raised further");
      return;
    }
  } while (!data.compare_exchange_weak(old, old + WorkAccess::kDisabledOne, std::memory_order_seq_cst,
                                       std::memory_order_relaxed));
}

bool lower_disabled(EngineState& state, Work& work) noexcept {
  auto& data = WorkAccess::data(work);
  std::uint64_t old = data.load(std::memory_order_relaxed);
  do {
    if ((old & WorkAccess::kDisabledMask) == 0) {
      state.report_caller(Report::Kind::kMisuse, "enable_work without a disable_work before it");
      return false;
    }
  } while (!data.compare_exchange_weak(old, old - WorkAccess::kDisabledOne, std::memory_order_seq_cst,
                                       std::memory_order_relaxed));
  return (old & WorkAccess::kDisabledMask) == WorkAccess::kDisabledOne;
}

bool disable(EngineState& state, Work& work, DelayedWork* delayed) noexcept {
  // First the depth, then the taking back: a queueing that came before is found, one that comes after is refused.
  raise_disabled(state, work);
  return take_back(state, work, delayed);
}

bool cancel_sync(EngineState& state, Work& work, DelayedWork* delayed) noexcept {
  // Disabled meanwhile, so that a work that queues itself comes to an end (rule 20). Depths add up, so that callers do
  // not undo each other or an outer disable (rule 21).
  const bool was_pending = disable(state, work, delayed);
  state.flush(work, true);
  lower_disabled(state, work);
  return was_pending;
}

}  // namespace

bool Engine::cancel_work(Work& work) noexcept { return take_back(*state_, work, nullptr); }
bool Engine::cancel_delayed_work(DelayedWork& work) noexcept { return take_back(*state_, work.work(), &work); }

bool Engine::disable_work(Work& work) noexcept { return disable(*state_, work, nullptr); }
bool Engine::disable_delayed_work(DelayedWork& work) noexcept { return disable(*state_, work.work(), &work); }
bool Engine::enable_work(Work& work) noexcept { return lower_disabled(*state_, work); }
bool Engine::enable_delayed_work(DelayedWork& work) noexcept { return lower_disabled(*state_, work.work()); }

bool Engine::cancel_work_sync(Work& work) noexcept { return cancel_sync(*state_, work, nullptr); }
bool Engine::cancel_delayed_work_sync(DelayedWork& work) noexcept { return cancel_sync(*state_, work.work(), &work); }

bool Engine::disable_work_sync(Work& work) noexcept {
  const bool was_pending = disable(*state_, work, nullptr);
  state_->flush(work, true);
  return was_pending;
}

bool Engine::disable_delayed_work_sync(DelayedWork& work) noexcept {
  const bool was_pending = disable(*state_, work.work(), &work);
  state_->flush(work.work(), true);
  return was_pending;
}

}  // namespace upci::inline UPCI_VARIANT
