// SPDX-License-Identifier: Apache-2.0
// Internal to vfio/bind/: a PCI function as sysfs shows it, and the attributes that bind and unbind write.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "pci/address.h"
#include "vfio/bind/sysfs.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

inline constexpr std::string_view kVfioPci = "vfio-pci";
/// The driver_override of a bridge that is released: no driver has this name.
inline constexpr std::string_view kNoDriver = "none";

struct Function {
  pci::Address address;
  std::uint16_t vendor = 0, device = 0;
  std::uint32_t class_code = 0;  // 24 bits
  std::string driver = {};       // bound now, or ""
  int group = -1;                // IOMMU group, or -1
  int node = -1;                 // NUMA node, or -1

  bool is_bridge() const noexcept { return class_code >> 8 == 0x0604; }  // <linux/pci_ids.h>: PCI_CLASS_BRIDGE_PCI
};

/// Reads what can be read without waiting for the device. nullopt when there is no such function.
/// Errors: kSystem; kUnavailable when not permitted.
Result<std::optional<Function>> look_at(Sysfs& sysfs, const pci::Address& address);

/// The driver bound to a function now, or "". Errors: as above.
Result<std::string> driver_of(Sysfs& sysfs, const pci::Address& address);

/// Config space offset 0x0e without the multi-function bit (PCI 3.0, section 6.2.1): 0 for what is no bridge.
Result<unsigned> header_type(Sysfs& sysfs, const pci::Address& address);

// Each of these waits for the device's lock, for at most 10 s. Errors: kTimeout then; kUnavailable when not permitted; kSystem.

/// The driver_override, or "".
Result<std::string> read_override(Sysfs& sysfs, const pci::Address& address);
/// "" clears it (the kernel's driver_set_override()).
Result<void> write_override(Sysfs& sysfs, const pci::Address& address, std::string_view driver);
/// The kernel's unbind_store(). Does nothing where `driver` is not bound to it any more.
Result<void> unbind_from(Sysfs& sysfs, const pci::Address& address, const std::string& driver);
/// The kernel's bind_store(): ENODEV when the driver does not match, else what its probe said.
Result<void> bind_to(Sysfs& sysfs, const pci::Address& address, const std::string& driver);
/// Lets the kernel look for a driver (drivers_probe_store()); to have found none is no error.
Result<void> probe_drivers(Sysfs& sysfs, const pci::Address& address);

/// "/sys/bus/pci/devices/ADDRESS".
std::string device_path(const pci::Address& address);
std::string driver_path(std::string_view driver);
/// What a link is to, by its last part; "" when there is no such link. Errors: any other one.
Result<std::string> link_name(Sysfs& sysfs, const std::string& path);
/// Without white space and zero bytes around it.
std::string trimmed(std::string_view text);

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
