// SPDX-License-Identifier: Apache-2.0
// Just enough to write JSON by hand: the engine needs no library for it.
#pragma once

#include <string>
#include <string_view>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT {

/// The text in quotes, escaped. Bytes that are no UTF-8 become U+FFFD.
std::string json_string(std::string_view text);

}  // namespace upci::inline UPCI_VARIANT
