// SPDX-License-Identifier: Apache-2.0
#include "pci/address.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

namespace upci::inline UPCI_VARIANT::pci {
namespace {

/// The hexadecimal number before `end` (or before the end of the text), which is taken off the text with it.
std::optional<std::uint32_t> take_hex(std::string_view& text, char end, std::size_t min_digits,
                                      std::size_t max_digits) {
  const std::size_t at = end == '\0' ? text.size() : text.find(end);
  if (at == std::string_view::npos || at < min_digits || at > max_digits) return std::nullopt;
  std::uint32_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + at, value, 16);
  if (error != std::errc() || rest != text.data() + at) return std::nullopt;
  text.remove_prefix(end == '\0' ? at : at + 1);
  return value;
}

}  // namespace

Result<Address> Address::parse(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return fail(Errc::kInvalid, fmt::format("'{}' is not a PCI address: {}", text, why),
                "write domain:bus:device.function in hexadecimal, for example 0000:65:00.0");
  };
  std::string_view rest = text;
  const auto domain = take_hex(rest, ':', 4, 8);
  if (!domain) return bad("the domain is not 4 to 8 hexadecimal digits before a colon");
  const auto bus = take_hex(rest, ':', 2, 2);
  if (!bus) return bad("the bus is not 2 hexadecimal digits before a second colon");
  const auto device = take_hex(rest, '.', 2, 2);
  if (!device) return bad("the device is not 2 hexadecimal digits before a dot");
  if (*device > 0x1f) return bad("the device number is above 1f");
  const auto function = take_hex(rest, '\0', 1, 1);
  if (!function || *function > 7) return bad("the function is not a digit from 0 to 7");
  return Address{.domain = *domain,
                 .bus = static_cast<std::uint8_t>(*bus),
                 .device = static_cast<std::uint8_t>(*device),
                 .function = static_cast<std::uint8_t>(*function)};
}

std::string Address::to_string() const {
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", domain, bus, device, function);
}

}  // namespace upci::inline UPCI_VARIANT::pci
