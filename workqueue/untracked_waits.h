// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

namespace detail {
struct UntrackedWaitsSlot;
}

/// While one of these lives, the waits of the calling thread are not remembered and close no cycle: for an order that is
/// safe for a reason that the engine cannot see (the two never exist together; a hierarchy of equal functions on two
/// queues). Keep it as short as the wait, and say the reason beside it. Nests. Kernel: lockdep_off, mutex_lock_nested.
class UntrackedWaits {
 public:
  UntrackedWaits() noexcept : outer_(slot()) { slot() = this; }
  ~UntrackedWaits() { slot() = outer_; }
  UntrackedWaits(const UntrackedWaits&) = delete;
  UntrackedWaits& operator=(const UntrackedWaits&) = delete;

  static bool active() noexcept { return slot() != nullptr; }

 private:
  static void*& slot() noexcept { return platform::thread_slot<detail::UntrackedWaitsSlot>(); }
  void* const outer_;
};

}  // namespace upci::inline UPCI_VARIANT
