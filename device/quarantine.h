// SPDX-License-Identifier: Apache-2.0
// Memory that a device may still write to, kept for the life of the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "device/device.h"

namespace upci::inline UPCI_VARIANT::device::quarantine {

struct Totals {
  std::size_t regions = 0;
  std::uint64_t bytes = 0;
};

/// Keeps `memory` until release() finds its device no longer quarantined. Thread-safe; when there is no memory for the list
/// itself, what it should hold is lost for the life of the process, never freed.
void keep(std::shared_ptr<DeviceState> state, std::unique_ptr<DmaMemory> memory);
/// Frees what belongs to a device that is no longer quarantined; returns how many regions were freed.
std::size_t release(const DeviceState& state);
/// What is kept now; the list itself is reachable from one static pointer, so leak checkers see it as owned.
Totals totals();

}  // namespace upci::inline UPCI_VARIANT::device::quarantine
