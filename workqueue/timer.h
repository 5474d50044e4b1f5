// SPDX-License-Identifier: Apache-2.0
// Timers of a pool: an intrusive pairing heap, so that arming one allocates nothing.
#pragma once

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

class DelayedWork;

/// A node of a TimerHeap. Fields without a tag: the lock of the pool whose heap it is in.
struct Timer {
  explicit Timer(DelayedWork& work) noexcept : owner(work) {}
  DelayedWork& owner;  // const
  platform::TimePoint expires{};
  bool armed = false;
  Timer* child = nullptr;  // first child
  Timer* next = nullptr;   // next sibling
  Timer* back = nullptr;   // previous sibling, or the parent for a first child
};

/// Earliest expiry first. Not thread-safe: the pool's lock.
class TimerHeap {
 public:
  const Timer* top() const noexcept { return root_; }
  void insert(Timer& timer, platform::TimePoint expires) noexcept;
  /// `timer` must be armed in this heap.
  void erase(Timer& timer) noexcept;
  /// Takes out the earliest timer when it has expired by `now`, else nullptr.
  Timer* pop_expired(platform::TimePoint now) noexcept;

 private:
  static Timer* meld(Timer* a, Timer* b) noexcept;
  static Timer* meld_children(Timer* first) noexcept;
  Timer* root_ = nullptr;
};

}  // namespace upci::inline UPCI_VARIANT
