// SPDX-License-Identifier: Apache-2.0
// Private. How a device is made safe: after a probe that failed, after one that came too late, and when it is removed.
#pragma once

#include <memory>

#include "base/deadline.h"
#include "base/error.h"
#include "device/device.h"

namespace upci::inline UPCI_VARIANT::device {

/// How long a device may take to be silenced once it has failed: a function-level reset alone may take 100 ms, and the
/// device may ask for a second more (PCI Express Base Specification, "Function Level Reset").
inline constexpr platform::Nanoseconds kSilenceTimeout = std::chrono::milliseconds(1500);

/// Bus mastering off, reset; then, if the device is proven quiet (by the backend, or by bus mastering off and the device's own
/// reset), ends its quarantine and frees what was kept for it.
/// Errors: what failed, when it could not be proven quiet: the device stays quarantined.
Result<void> silence(Device& device, Deadline deadline);

/// The works of `bound` and of what is bound on top of it: waits for those that run. May block as dismantle() may.
void disable_works(Engine& engine, Bound& bound);
void enable_works(Engine& engine, Bound& bound);

/// The second half of every removal, in the kernel's order: quiesce, interrupts masked and synchronised, works disabled,
/// device silenced, destructor. Errors: the first that failed; all is done all the same. May block in a work of the
/// driver that hangs: the caller runs it in a Job.
Result<void> dismantle(Device& device, std::unique_ptr<Bound> bound, Deadline deadline);

}  // namespace upci::inline UPCI_VARIANT::device
