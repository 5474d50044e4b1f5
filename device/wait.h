// SPDX-License-Identifier: Apache-2.0
// Waiting on a device's register: bounded, recorded, and ending in success or in a verdict.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/deadline.h"
#include "base/error.h"
#include "device/control.h"
#include "device/state.h"

namespace upci::inline UPCI_VARIANT::device {

enum class WaitStep : std::uint8_t { kAgain, kDone, kNeedsReset, kRejected };

struct RegisterWait {
  std::string_view step;  // "reset"
  std::string_view reg;   // "device_status"
  Deadline deadline;
  std::uint64_t all_ones = 0xff;                 // the value of a register of this width on a device that is not there
  std::function<std::uint64_t()> read;           // one access; records itself
  std::function<WaitStep(std::uint64_t)> judge;  // what a value means
  std::string stuck_advice = {};                 // what a reader should do when it is stuck
};

/// Reads until the judge is content: at once, then after a few short pauses, then every millisecond, and a last time at the
/// deadline; sleeps are framework waits, so the CPU's other items run meanwhile. Errors: kVerdict with stuck (at the
/// deadline, never before), gone (all ones and not present, or abandoned), needs_reset, rejected; the stack of the caller
/// is kept in the recorder.
Result<std::uint64_t> wait_for_register(DeviceState& state, DeviceControl& control, const RegisterWait& wait);

}  // namespace upci::inline UPCI_VARIANT::device
