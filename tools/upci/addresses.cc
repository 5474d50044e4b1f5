// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/addresses.h"

#include <fmt/format.h>

#include <algorithm>

namespace upci::tool {

Result<std::vector<pci::Address>> parse_addresses(const std::vector<std::string>& texts) {
  std::vector<pci::Address> addresses;
  for (const std::string& text : texts) {
    UPCI_TRY_ASSIGN(const pci::Address address, pci::Address::parse(text));
    if (std::ranges::find(addresses, address) != addresses.end()) {
      return fail(Errc::kInvalid, fmt::format("{} is named twice", address.to_string()));
    }
    addresses.push_back(address);
  }
  return addresses;
}

}  // namespace upci::tool
