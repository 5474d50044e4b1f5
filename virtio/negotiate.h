// SPDX-License-Identifier: Apache-2.0
// Which features a driver and a device agree on. Section "Feature Bits".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "device/device.h"
#include "virtio/driver.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// What is to be written to the device: what it offers and the driver wants, with VERSION_1 and ACCESS_PLATFORM (modern)
/// or ANY_LAYOUT (legacy), which are the core's business, less what the user declined. Errors: kInvalid for an unknown name, a name that the driver
/// cannot use, or one that is both insisted on and declined; kVerdict rejected (step "features") when the device lacks what
/// the driver or the user requires.
Result<std::uint64_t> negotiate(const FeatureTable& table, std::uint64_t offered, std::uint32_t device_id, bool legacy,
                                const device::BindOptions& options);

/// Names of the bits set, lowest first; a bit without a name is "bit N".
std::vector<std::string> feature_names(std::uint32_t device_id, std::uint64_t features);

}  // namespace upci::inline UPCI_VARIANT::virtio
