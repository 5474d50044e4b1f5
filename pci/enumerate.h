// SPDX-License-Identifier: Apache-2.0
// The PCI functions of this machine, through libpciaccess. Reads only; nothing is bound, reset or written.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "pci/address.h"

namespace upci::inline UPCI_VARIANT::pci {

enum class VirtioInterface : std::uint8_t { kNone, kModern, kLegacy, kTransitional, kUnknown };

struct Function {
  Address address;
  std::uint16_t vendor = 0, device = 0;
  std::uint32_t class_code = 0;
  std::string driver;  // the kernel driver bound now, or ""
  int node = -1;
  int iommu_group = -1;
  VirtioInterface virtio = VirtioInterface::kNone;  // kUnknown when the capabilities may not be read (without root)
};

/// All functions, in address order. Errors: kUnavailable when the machine shows no PCI bus to this process.
Result<std::vector<Function>> enumerate();

}  // namespace upci::inline UPCI_VARIANT::pci
