// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_pci/structures.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {
namespace {

namespace spec = virtio::spec::pci;

constexpr std::uint16_t kCapabilitySpace = 256;
constexpr std::uint8_t kBars = 6;

struct Want {
  spec::CapType type;
  std::string_view name;
  std::uint8_t capability_bytes;
  std::uint32_t structure_bytes;  // the least that a driver needs
  std::uint32_t align;            // section: "offset MUST be 4-byte aligned" (common, device), 2-byte (notify)
  bool required;
};

constexpr std::array<Want, 4> kWanted = {{
    {spec::CapType::kCommon, "common configuration", spec::cap::kSize, spec::kCommonSize, 4, true},
    {spec::CapType::kNotify, "notification", spec::cap::kNotifySize, 2, 2, true},
    {spec::CapType::kIsr, "ISR status", spec::cap::kSize, 1, 1, true},
    {spec::CapType::kDevice, "device configuration", spec::cap::kSize, 1, 4, false},
}};

std::unexpected<Error> broken(std::string what) {
  return std::unexpected(Error{.code = Errc::kDevice,
                               .what = std::move(what),
                               .advice = "the device's capabilities are broken; nothing was written to it",
                               .step = "probe",
                               .reg = "capabilities"});
}

/// One virtio capability as the device wrote it.
struct Raw {
  std::uint16_t at = 0;
  std::uint8_t bytes = 0, type = 0, bar = 0;
  std::uint32_t offset = 0, length = 0;
};

Raw read_raw(const pci::ConfigSpace& config, std::uint16_t at) {
  const auto field = [at](std::uint8_t offset) { return static_cast<std::uint16_t>(at + offset); };
  return {.at = at,
          .bytes = config.read8(field(spec::cap::kLength)),
          .type = config.read8(field(spec::cap::kType)),
          .bar = config.read8(field(spec::cap::kBar)),
          .offset = config.read32(field(spec::cap::kOffset)),
          .length = config.read32(field(spec::cap::kStructLength))};
}

Result<pci::Bar> window_of(pci::Device& device, const Raw& raw, const Want& want) {
  if (raw.bytes < want.capability_bytes || raw.at + want.capability_bytes > kCapabilitySpace) {
    return broken(
        fmt::format("the virtio {} capability at 0x{:02x} is cut off after {} bytes", want.name, raw.at, raw.bytes));
  }
  if (raw.length < want.structure_bytes) {
    return broken(fmt::format("the virtio {} structure has {} bytes, at least {} are needed", want.name, raw.length,
                              want.structure_bytes));
  }
  if (raw.offset % want.align != 0) {
    return broken(
        fmt::format("the virtio {} structure lies at 0x{:x}, no multiple of {}", want.name, raw.offset, want.align));
  }
  auto bar = device.bar(raw.bar);
  auto window = bar ? bar->window(raw.offset, raw.length) : std::move(bar);
  if (!window) {
    Error error = std::move(window).error();
    error.what = fmt::format("the virtio {} structure (BAR {}, offset 0x{:x}, {} bytes) cannot be reached: {}",
                             want.name, raw.bar, raw.offset, raw.length, error.what);
    error.step = "probe";
    error.reg = "capabilities";
    return std::unexpected(std::move(error));
  }
  return window;
}

}  // namespace

Result<std::optional<Structures>> find_structures(pci::Device& device) {
  const pci::ConfigSpace config = device.config();
  UPCI_TRY_ASSIGN(const auto capabilities, config.capabilities());
  Structures found;
  const std::array<pci::Bar*, kWanted.size()> windows = {&found.common, &found.notify, &found.isr, &found.device};
  bool any = false;
  for (const pci::Capability& capability : capabilities) {
    if (capability.id != spec::kVendorCapability) continue;
    any = true;
    // The four fields that every virtio capability has must lie in the config space before they are read.
    if (capability.offset + spec::cap::kSize > kCapabilitySpace) {
      return broken(fmt::format("the vendor capability at 0x{:02x} runs out of the config space", capability.offset));
    }
    const Raw raw = read_raw(config, capability.offset);
    // Section "Virtio Structure PCI Capabilities": "The driver MUST ignore any vendor-specific capability structure which has
    // a reserved cfg_type value", and reserved values of bar.
    if (raw.bar >= kBars) continue;
    for (std::size_t i = 0; i < kWanted.size(); ++i) {
      // "The driver SHOULD use the first instance of each virtio structure type they can support."
      if (raw.type != static_cast<std::uint8_t>(kWanted[i].type) || *windows[i]) continue;
      UPCI_TRY_ASSIGN(*windows[i], window_of(device, raw, kWanted[i]));
      if (kWanted[i].type == spec::CapType::kNotify) {
        found.notify_multiplier = config.read32(static_cast<std::uint16_t>(raw.at + spec::cap::kNotifyMultiplier));
      }
    }
  }
  if (!any) return std::optional<Structures>();
  for (std::size_t i = 0; i < kWanted.size(); ++i) {
    if (kWanted[i].required && !*windows[i]) {
      return broken(fmt::format("the device has no virtio {} structure", kWanted[i].name));
    }
  }
  return std::optional(std::move(found));
}

}  // namespace upci::inline UPCI_VARIANT::virtio_pci
