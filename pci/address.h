// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace upci::inline UPCI_VARIANT::pci {

/// domain:bus:device.function. A value.
struct Address {
  std::uint32_t domain = 0;  // 16 bits on most machines; up to 32 behind some host bridges (VMD)
  std::uint8_t bus = 0;
  std::uint8_t device = 0;    // 0..31
  std::uint8_t function = 0;  // 0..7

  /// "0000:65:00.0". Errors: kInvalid, with what is wrong and an example.
  static Result<Address> parse(std::string_view text);
  std::string to_string() const;
  friend auto operator<=>(const Address&, const Address&) = default;
};

}  // namespace upci::inline UPCI_VARIANT::pci
