// SPDX-License-Identifier: Apache-2.0
// Private. The walk over a standard capability list, over anything that reads config space.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/error.h"
#include "pci/config.h"

namespace upci::inline UPCI_VARIANT::pci {

/// Reads `width` (1 or 2) bytes at an offset below 256. Errors: kUnavailable where it may not be read.
using ConfigReader = std::function<Result<std::uint32_t>(std::uint16_t offset, unsigned width)>;

/// Errors: the reader's; kDevice as ConfigSpace::capabilities.
Result<std::vector<Capability>> walk_capabilities(const ConfigReader& read);

}  // namespace upci::inline UPCI_VARIANT::pci
