// SPDX-License-Identifier: Apache-2.0
#include "pci/config.h"

#include <fmt/format.h>

#include <bitset>

#include "pci/capability_walk.h"

namespace upci::inline UPCI_VARIANT::pci {
namespace {

// Offsets and bits: PCI Local Bus Specification 3.0, section 6.1 and 6.2.
constexpr std::uint16_t kVendorId = 0x00, kDeviceId = 0x02, kStatus = 0x06, kRevision = 0x08, kInterface = 0x09,
                        kSubClass = 0x0a, kBaseClass = 0x0b, kHeaderType = 0x0e, kSubsystemVendor = 0x2c,
                        kSubsystemDevice = 0x2e, kCapabilities = 0x34, kCardBusCapabilities = 0x14;
constexpr std::uint32_t kStatusCapabilityList = 0x10;
constexpr std::uint32_t kHeaderTypeMask = 0x7f, kHeaderCardBus = 2;
constexpr std::uint32_t kGone = 0xffff;

// The list lies in the 192 bytes behind the header, and each entry takes at least 4 of them.
constexpr std::uint32_t kFirstOffset = 0x40;
constexpr std::size_t kMostCapabilities = (256 - kFirstOffset) / 4;

}  // namespace

Result<std::vector<Capability>> walk_capabilities(const ConfigReader& read) {
  UPCI_TRY_ASSIGN(const std::uint32_t status, read(kStatus, 2));
  if (status == kGone) return fail(Errc::kDevice, "the config space is full of ones");
  if ((status & kStatusCapabilityList) == 0) return std::vector<Capability>{};
  UPCI_TRY_ASSIGN(const std::uint32_t header, read(kHeaderType, 1));
  const std::uint16_t head = (header & kHeaderTypeMask) == kHeaderCardBus ? kCardBusCapabilities : kCapabilities;
  UPCI_TRY_ASSIGN(std::uint32_t offset, read(head, 1));

  std::vector<Capability> found;
  std::bitset<256> seen;
  while (offset != 0) {
    if (offset < kFirstOffset)
      return fail(Errc::kDevice, fmt::format("a capability pointer leads into the header ({:#x})", offset));
    if (offset % 4 != 0)
      return fail(Errc::kDevice, fmt::format("a capability pointer is out of alignment ({:#x})", offset));
    if (seen[offset] || found.size() == kMostCapabilities) {
      return fail(Errc::kDevice, fmt::format("the capability list is a loop (at {:#x})", offset));
    }
    seen[offset] = true;
    UPCI_TRY_ASSIGN(const std::uint32_t id, read(static_cast<std::uint16_t>(offset), 1));
    if (id == 0xff) return fail(Errc::kDevice, fmt::format("the capability at {:#x} is full of ones", offset));
    found.push_back({.id = static_cast<std::uint8_t>(id), .offset = static_cast<std::uint8_t>(offset)});
    UPCI_TRY_ASSIGN(offset, read(static_cast<std::uint16_t>(offset + 1), 1));
  }
  return found;
}

Result<Identity> ConfigSpace::identity() const {
  Identity identity;
  identity.vendor = read16(kVendorId);
  if (identity.vendor == kGone) {
    return fail_verdict(Verdict::kGone, "probe", "vendor_id", backend_->name() + ": the config space reads all ones",
                        "the device is not on its bus: look at its link, its power, and whether it was removed");
  }
  identity.device = read16(kDeviceId);
  identity.subsystem_vendor = read16(kSubsystemVendor);
  identity.subsystem_device = read16(kSubsystemDevice);
  identity.revision = read8(kRevision);
  identity.class_code =
      std::uint32_t{read8(kBaseClass)} << 16 | std::uint32_t{read8(kSubClass)} << 8 | read8(kInterface);
  return identity;
}

Result<std::vector<Capability>> ConfigSpace::capabilities() const {
  auto found = walk_capabilities([this](std::uint16_t offset, unsigned width) -> Result<std::uint32_t> {
    return backend_->config_read(offset, width);
  });
  if (!found) found.error().what = backend_->name() + ": " + found.error().what;
  return found;
}

Result<std::optional<Capability>> ConfigSpace::find(std::uint8_t id) const {
  UPCI_TRY_ASSIGN(const std::vector<Capability> all, capabilities());
  for (const Capability& capability : all) {
    if (capability.id == id) return capability;
  }
  return std::nullopt;
}

}  // namespace upci::inline UPCI_VARIANT::pci
