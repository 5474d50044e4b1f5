// SPDX-License-Identifier: Apache-2.0
// Internal to vfio/bind/: making a function what its record says it was, from whatever state it is in.
#pragma once

#include <string>

#include "vfio/bind/function.h"
#include "vfio/bind/state.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

struct Restoration {
  std::string driver = {};  // bound now, or ""
  bool complete = false;    // it was still as a finished bind leaves it
  std::string note = {};    // why there was nothing to restore; empty otherwise
};

/// Restores driver_override and driver. Can be broken off anywhere and done again. Does not touch the record.
/// Errors: kUnavailable when somebody else has it (bound to another driver, or open); kTimeout when the kernel does not let
/// go of it; kSystem.
Result<Restoration> restore(Sysfs& sysfs, const Record& record);

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
