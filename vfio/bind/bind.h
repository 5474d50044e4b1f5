// SPDX-License-Identifier: Apache-2.0
// Giving PCI functions to vfio-pci, and giving them back: driver_override only, what was before is written down first, and
// whatever ends a bind early, a killed process included, can be undone by the next unbind.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "pci/address.h"
#include "vfio/bind/state.h"
#include "vfio/bind/sysfs.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

struct Function;

/// What became of one function of a bind.
struct Bound {
  pci::Address address;
  std::string driver = {};             // "vfio-pci", or "" for a bridge that was released
  std::string previous_driver = {};    // "" when there was none, or it is not known
  std::string previous_override = {};  // the same of its driver_override
  int group = -1;                      // IOMMU group, or -1
  int node = -1;                       // NUMA node, or -1
  bool changed = false;                // false: it was so before this call
  std::string note = {};               // what a person should know; may be empty
};

/// What became of one function of an unbind.
struct Restored {
  pci::Address address;
  std::string driver = {};          // bound now, or ""
  bool repaired = false;            // the bind, or an earlier unbind, had been broken off
  std::string note = {};            // what a person should know; may be empty
  std::optional<Error> error = {};  // then it is not restored, and its record stays
};

/// Asked between steps: true ends a bind, which then undoes what it did.
using Interrupted = std::function<bool()>;

class Binder {
 public:
  /// `folder`: where the records are (state_folder()).
  Binder(Sysfs& sysfs, std::string folder) : sysfs_(sysfs), records_(sysfs, std::move(folder)) {}

  /// Binds functions to vfio-pci; releases bridges from a driver that stands in the way of their group. All or none: everything
  /// is checked before the first function is let go, and after an error all that this call did is undone, in reverse order.
  /// Errors: kUnavailable when a check refuses, or something is not permitted; kSystem, kTimeout and kState (interrupted) for
  /// what failed after the checks: they say whether what was has been restored.
  Result<std::vector<Bound>> bind(std::span<const pci::Address> addresses, const Interrupted& interrupted = {});

  /// Gives functions back to what had them, by their records, one after the other; an error of one does not keep the others.
  /// Errors: when nothing could be begun (not root, another upci at work).
  Result<std::vector<Restored>> unbind(std::span<const pci::Address> addresses);

  /// The same for every record.
  Result<std::vector<Restored>> unbind_all();

 private:
  struct Plan;
  Result<Plan> plan(const Function& function);
  Result<void> carry_out(Plan& plan, const Interrupted& interrupted);
  Error undo(std::span<const Plan> done, Error error);
  Restored give_back(const pci::Address& address);
  Result<void> require_root();

  Sysfs& sysfs_;
  Records records_;
};

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
