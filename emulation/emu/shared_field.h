// SPDX-License-Identifier: Apache-2.0
// A field of a ring that driver and device both touch, as the device sees it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// The caller has checked range and alignment.
inline platform::Atomic<std::uint16_t>& shared16(std::byte* at) noexcept {
  static_assert(sizeof(platform::Atomic<std::uint16_t>) == 2);
  return *static_cast<platform::Atomic<std::uint16_t>*>(static_cast<void*>(at));
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
