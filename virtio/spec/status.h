// SPDX-License-Identifier: Apache-2.0
// The bits of device_status. Section "Device Status Field".
#pragma once

#include <cstdint>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio::spec::status {

inline constexpr std::uint8_t kReset = 0;
inline constexpr std::uint8_t kAcknowledge = 0x01;
inline constexpr std::uint8_t kDriver = 0x02;
inline constexpr std::uint8_t kDriverOk = 0x04;
inline constexpr std::uint8_t kFeaturesOk = 0x08;
inline constexpr std::uint8_t kSuspend = 0x10;     // with SUSPEND (virtio 1.4), which no driver here negotiates yet
inline constexpr std::uint8_t kNeedsReset = 0x40;  // set by the device only
inline constexpr std::uint8_t kFailed = 0x80;

/// Bits that the specification gives no meaning, or none without SUSPEND.
inline constexpr std::uint8_t kReserved = 0x20 | kSuspend;

}  // namespace upci::inline UPCI_VARIANT::virtio::spec::status
