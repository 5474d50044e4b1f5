// SPDX-License-Identifier: Apache-2.0
// What the program's exit code says, and which one wins where several apply.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "device/report.h"

namespace upci::tool {

enum class ExitCode : std::uint8_t {
  kDone = 0,
  kError = 1,
  kUsage = 2,    // the text of the command line alone shows that it is wrong
  kVerdict = 3,  // a device did not do its part
  kNoDriver = 4,
  kEnvironment = 5,  // not permitted, or the machine lacks something
};

/// The one of the two that the caller should hear about: usage, environment, verdict, no driver, error, done.
constexpr ExitCode worse(ExitCode a, ExitCode b) noexcept {
  constexpr auto weight = [](ExitCode code) {
    switch (code) {
      case ExitCode::kUsage: return 5;
      case ExitCode::kEnvironment: return 4;
      case ExitCode::kVerdict: return 3;
      case ExitCode::kNoDriver: return 2;
      case ExitCode::kError: return 1;
      case ExitCode::kDone: return 0;
    }
    return 1;
  };
  return weight(a) >= weight(b) ? a : b;
}

constexpr ExitCode exit_code_of(Errc code) noexcept {
  switch (code) {
    case Errc::kInvalid: return ExitCode::kUsage;
    case Errc::kUnavailable: return ExitCode::kEnvironment;
    case Errc::kVerdict: return ExitCode::kVerdict;
    case Errc::kNoDriver: return ExitCode::kNoDriver;
    case Errc::kDevice:
    case Errc::kTimeout:
    case Errc::kSystem:
    case Errc::kState: return ExitCode::kError;
  }
  return ExitCode::kError;
}

/// What one probe contributes. `slow` is a success.
inline ExitCode exit_code_of(const device::Report& report) noexcept {
  if (report.ok()) return ExitCode::kDone;
  if (report.result == "no_driver") return ExitCode::kNoDriver;
  if (report.result != "error") return ExitCode::kVerdict;
  return report.error ? exit_code_of(report.error->code) : ExitCode::kError;
}

}  // namespace upci::tool
