// SPDX-License-Identifier: Apache-2.0
// Whether this process still has anything to do.
#pragma once

#include <map>
#include <set>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::oracle {

/// Tells when all threads of the process, but the one that asks, have come to sleep. A call that has been logged as begun may
/// not yet have come to where it waits, on a machine that is busy with other things; what it finds there depends on it.
class Rest {
 public:
  /// `uninterruptible`: a thread in state D is at rest, too.
  explicit Rest(bool uninterruptible) noexcept : uninterruptible_(uninterruptible) {}

  /// True when each thread but the caller and `spinning` sleeps, did so at the call before, and has not run in between: so
  /// there was a time at which all of them slept at once. From there on only time, or the caller, can make one run.
  bool look(const std::set<platform::ThreadId>& spinning);

 private:
  const bool uninterruptible_;
  std::map<platform::ThreadId, unsigned long> slept_;  // how often each had been switched out; empty: not all slept
};

}  // namespace upci::inline UPCI_VARIANT::oracle
