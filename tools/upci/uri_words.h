// SPDX-License-Identifier: Apache-2.0
// The words of a device URI that upci keeps for itself in every scheme.
#pragma once

#include <string_view>

#include "base/error.h"
#include "emulation/device_spec.h"
#include "tools/upci/uri.h"

namespace upci::tool {

/// driver, fault, wire, disk, node, features.
bool is_reserved(std::string_view key);

/// Puts a reserved word where it belongs in `uri`, whose scheme and model are set. Errors: kInvalid for a value that cannot
/// be, or a word that the scheme cannot follow.
Result<void> take_reserved(Uri& uri, const emulation::Word& word);

}  // namespace upci::tool
