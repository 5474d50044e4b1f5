// SPDX-License-Identifier: Apache-2.0
// Where a modern device keeps its registers. Section "Virtio Structure PCI Capabilities".
#pragma once

#include <cstdint>
#include <optional>

#include "base/error.h"
#include "pci/bar.h"
#include "pci/device.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {

/// Windows that have been checked against the BARs that they lie in.
struct Structures {
  pci::Bar common;
  pci::Bar notify;
  pci::Bar isr;
  pci::Bar device;  // false when the device has no configuration of its own
  std::uint32_t notify_multiplier = 0;
};

/// Walks the capability list. Nothing when the function has no virtio capability at all (a legacy device). Errors: kDevice
/// when a structure lies outside its BAR, is too short, is not aligned, or when one that every device must have is missing.
Result<std::optional<Structures>> find_structures(pci::Device& device);

}  // namespace upci::inline UPCI_VARIANT::virtio_pci
