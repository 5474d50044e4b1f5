// SPDX-License-Identifier: Apache-2.0
#include "base/wait.h"

#include <climits>

namespace upci::inline UPCI_VARIANT {

void sleep_for(platform::Nanoseconds span) { sleep_until(Deadline::after(span).when()); }

void sleep_until(platform::TimePoint when) {
  BlockingScope blocking;
  platform::this_thread::sleep_until(when);
}

void Completion::complete() noexcept {
  // From this exchange on a waiter may return and the object may be gone: below it only its address is used.
  // Release pairs with the acquires of is_complete() and wait_until().
  const platform::Atomic<std::uint32_t>* const word = &state_;
  std::uint32_t done = kDone;
  if (BlockingObserver* observer = blocking_observer(); observer != nullptr && observer->tracks_completions()) {
    done |= observer->completer() << kStateBits;
  }
  if (state_.exchange(done, std::memory_order_acq_rel) == kWaiting) platform::wake_word(word, INT_MAX);
}

/// Tells the waiter's observer who completed it. Always true.
bool Completion::note(std::uint32_t done) noexcept {
  if (const std::uint32_t completer = done >> kStateBits; completer != 0) [[unlikely]] {
    if (BlockingObserver* observer = blocking_observer(); observer != nullptr && observer->tracks_completions()) {
      observer->waited_for(completer);
    }
  }
  return true;
}

bool Completion::wait(Deadline deadline) noexcept { return wait_until(deadline.when()); }

void Completion::wait() noexcept { wait_until(platform::kNever); }

bool Completion::wait_until(platform::TimePoint when) noexcept {
  std::uint32_t seen = state_.load(std::memory_order_acquire);
  if (!is_done(seen)) {
    BlockingScope blocking;
    seen = sleep_until_done(when);
  }
  return is_done(seen) && note(seen);
}

/// Returns the last state that was seen.
std::uint32_t Completion::sleep_until_done(platform::TimePoint when) noexcept {
  for (;;) {
    std::uint32_t seen = kIdle;
    // Says that a wake-up is wanted; fails when another waiter has said so, or when it is done.
    if (!state_.compare_exchange_strong(seen, kWaiting, std::memory_order_acq_rel, std::memory_order_acquire) &&
        is_done(seen)) {
      return seen;
    }
    if (!platform::wait_word(state_, kWaiting, when)) return state_.load(std::memory_order_acquire);
  }
}

}  // namespace upci::inline UPCI_VARIANT
