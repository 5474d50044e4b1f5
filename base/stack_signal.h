// SPDX-License-Identifier: Apache-2.0
// Internal to base/: the stack of another thread by way of a signal.
#pragma once

#include "base/stack.h"

namespace upci::inline UPCI_VARIANT::detail {

/// As capture_stack_of(), for a thread other than the caller.
Result<StackTrace> capture_by_signal(platform::ThreadId thread, Deadline deadline);

}  // namespace upci::inline UPCI_VARIANT::detail
