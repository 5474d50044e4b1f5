// SPDX-License-Identifier: Apache-2.0
// The four tracepoints of the workqueue. Kernel: include/trace/events/workqueue.h.
#pragma once

#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT::trace {

inline void queue_work(const Work&, const WorkFunction&, const char*, int, int) noexcept {}
inline void activate_work(const Work&) noexcept {}
inline void execute_start(const Work&, const WorkFunction&) noexcept {}
inline void execute_end(const Work*, const WorkFunction&) noexcept {}

}  // namespace upci::inline UPCI_VARIANT::trace
