// SPDX-License-Identifier: Apache-2.0
// PCI addresses as arguments.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "pci/address.h"

namespace upci::tool {

/// Errors: kInvalid for a text that is no address, and for one that comes twice.
Result<std::vector<pci::Address>> parse_addresses(const std::vector<std::string>& texts);

}  // namespace upci::tool
