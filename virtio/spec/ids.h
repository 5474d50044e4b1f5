// SPDX-License-Identifier: Apache-2.0
// Virtio device types. Section "Device Types".
#pragma once

#include <cstdint>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio::spec {

inline constexpr std::uint32_t kDeviceNet = 1;
inline constexpr std::uint32_t kDeviceBlock = 2;
inline constexpr std::uint32_t kDeviceConsole = 3;
inline constexpr std::uint32_t kDeviceEntropy = 4;
inline constexpr std::uint32_t kDeviceScsi = 8;

}  // namespace upci::inline UPCI_VARIANT::virtio::spec
