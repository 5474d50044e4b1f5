// SPDX-License-Identifier: Apache-2.0 What this machine's QEMU says about one of its PCI device models, and how the
// words of a URI become its -device option.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "emulation/device_spec.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

struct Model {
  std::string name;
  std::set<std::string, std::less<>> properties;
  bool has(std::string_view property) const { return properties.contains(property); }
  bool is_network() const { return has("netdev"); }
  bool is_block() const { return has("drive"); }
};

/// Asks QEMU (`-device NAME,help`) once for each program and model; the answer is remembered for the life of the
/// process. Thread-safe. Errors: kInvalid (no such model, not a PCI device, one that drives a device of this machine),
/// kUnavailable (no QEMU), kTimeout, kSystem.
Result<std::shared_ptr<const Model>> describe_model(const std::string& program, const std::string& name,
                                                    Deadline deadline);

/// "key=value,key=value" of the words, for the -device option; a comma in a value is doubled, which is QEMU's escape.
/// Errors: kInvalid: a bare word, a property that the model lacks (with the nearest names), or one that is the
/// harness's.
Result<std::string> device_properties(const Model& model, const std::vector<Word>& words);

/// Up to `count` of `names`, nearest in spelling to `wanted` first; those that have nothing to do with it are left out.
std::vector<std::string> nearest_names(std::string_view wanted, const std::vector<std::string>& names,
                                       std::size_t count);

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
