// SPDX-License-Identifier: Apache-2.0
// Framework waits: what code that runs in a worker uses to sleep. Each tells the worker's pool, so that the next item of
// the CPU can start meanwhile.
#pragma once

#include <cstdint>

#include "base/blocking.h"
#include "base/deadline.h"
#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

/// Sleeps for `span` (the kernel's msleep). May be called from any thread.
void sleep_for(platform::Nanoseconds span);
void sleep_until(platform::TimePoint when);

/// A one-shot event (the kernel's completion). complete() does not touch the object once a waiter can have returned, so it
/// may live on the waiter's stack.
class Completion {
 public:
  /// Wakes all waiters, now and later. Any context; at most once.
  void complete() noexcept;
  bool is_complete() const noexcept { return is_done(state_.load(std::memory_order_acquire)); }
  /// Returns true once complete; false when the deadline came first.
  bool wait(Deadline deadline) noexcept;
  void wait() noexcept;

 private:
  // The low bits; above kDone stands who completed it, when that is tracked (BlockingObserver::completer).
  static constexpr std::uint32_t kIdle = 0, kWaiting = 1, kDone = 2, kStateBits = 2;
  static bool is_done(std::uint32_t state) noexcept { return (state & kDone) != 0; }
  static bool note(std::uint32_t done) noexcept;
  bool wait_until(platform::TimePoint when) noexcept;
  std::uint32_t sleep_until_done(platform::TimePoint when) noexcept;
  platform::Atomic<std::uint32_t> state_{kIdle};
};

/// A mutex for driver code: a contended lock() tells the worker's pool.
class Mutex {
 public:
  void lock() {
    if (mutex_.try_lock()) return;
    BlockingScope blocking;
    mutex_.lock();
  }
  bool try_lock() { return mutex_.try_lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  platform::Mutex mutex_;
};

}  // namespace upci::inline UPCI_VARIANT
