// SPDX-License-Identifier: Apache-2.0
// The kernel's futex, bare: what every sleeping wait in this program, ours and the floors', stands on.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace bench {

inline void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

inline void futex_wake(std::atomic<std::uint32_t>& word, int count = 1) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

/// A flag that one thread sets and others wait for, asleep.
class Flag {
 public:
  void set() noexcept {
    word_.store(1, std::memory_order_release);
    futex_wake(word_, INT32_MAX);
  }
  void wait() noexcept {
    while (word_.load(std::memory_order_acquire) == 0) futex_wait(word_, 0);
  }
  void reset() noexcept { word_.store(0, std::memory_order_relaxed); }
  bool is_set() const noexcept { return word_.load(std::memory_order_acquire) != 0; }

 private:
  std::atomic<std::uint32_t> word_{0};
};

/// Counts items down; whoever waits sleeps until all are done. The same for every contestant, so its cost (one atomic
/// subtraction an item) is in each figure.
class Gate {
 public:
  /// Before the items are submitted, by the thread that will wait.
  void expect(std::uint32_t items) noexcept {
    all_done_.reset();
    remaining_.store(items, std::memory_order_release);
  }
  void done() noexcept {
    if (remaining_.fetch_sub(1, std::memory_order_acq_rel) == 1) all_done_.set();
  }
  void wait() noexcept { all_done_.wait(); }

 private:
  alignas(64) std::atomic<std::uint32_t> remaining_{0};
  alignas(64) Flag all_done_;
};

}  // namespace bench
