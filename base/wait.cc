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
  if (state_.exchange(kDone, std::memory_order_acq_rel) == kWaiting) platform::wake_word(word, INT_MAX);
}

bool Completion::wait(Deadline deadline) noexcept { return wait_until(deadline.when()); }

void Completion::wait() noexcept { wait_until(platform::kNever); }

bool Completion::wait_until(platform::TimePoint when) noexcept {
  if (is_complete()) return true;
  BlockingScope blocking;
  for (;;) {
    std::uint32_t seen = kIdle;
    // Says that a wake-up is wanted; fails when another waiter has said so, or when it is done.
    if (!state_.compare_exchange_strong(seen, kWaiting, std::memory_order_acq_rel, std::memory_order_acquire) &&
        seen == kDone) {
      return true;
    }
    if (!platform::wait_word(state_, kWaiting, when)) return is_complete();
  }
}

}  // namespace upci::inline UPCI_VARIANT
