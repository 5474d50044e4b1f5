// SPDX-License-Identifier: Apache-2.0
// Internal to vfio/bind/: what is made sure of before a bind lets go of anything. Each refusal is a kUnavailable error.
#pragma once

#include <span>
#include <vector>

#include "pci/address.h"
#include "vfio/bind/function.h"
#include "vfio/bind/sysfs.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

/// A function that was named, and what there is to do about it.
struct Checked {
  Function function;
  bool to_do = false;  // false: it is as a bind would leave it
};

/// Looks at all of them: they are there, of a kind that can be bound, vfio-pci is there (its module is loaded if need be), they
/// have an IOMMU group, the group is viable with them, and the machine does not need them. Changes nothing but that module.
Result<std::vector<Checked>> check_all(Sysfs& sysfs, std::span<const pci::Address> addresses);

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
