// SPDX-License-Identifier: Apache-2.0
// The report of one probe: a view of the device's flight recorder, for people and for programs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/flight_recorder.h"
#include "base/stack.h"
#include "base/verdict.h"

namespace upci::inline UPCI_VARIANT::device {

/// The command line renders these fields (its contract names them).
struct Report {
  std::string device;
  std::string driver;  // empty when none matches
  std::string result;  // "ok", "slow", "stuck", "gone", "needs_reset", "rejected", "stalled", "error", "no_driver"
  std::string step;
  std::string reg;
  platform::Nanoseconds elapsed{};  // from the start of the probe to the verdict
  platform::Nanoseconds deadline{};
  int node = -1;
  int cpu = -1;               // where the probe ran, -1 when it did not
  std::string inline_reason;  // empty when the probe ran by work_on_cpu on the device's node
  std::vector<std::string> features;
  std::vector<TimelineEntry> timeline;  // of the register named above
  StackTrace backtrace;                 // of the probing worker, at the verdict
  StackTrace requested_by;              // of whoever asked for the probe
  std::vector<std::string> notes;  // what else a reader should know: quarantined memory, CPU changed meanwhile, ...
  std::optional<Error> error;

  bool ok() const noexcept { return result == "ok" || result == "slow"; }
};

}  // namespace upci::inline UPCI_VARIANT::device
