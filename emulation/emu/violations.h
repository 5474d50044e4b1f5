// SPDX-License-Identifier: Apache-2.0
// What the driver did against the specification, as the device saw it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// Thread-safe. Each violation is logged as a warning and kept, up to a bound, so that a driver gone wild fills no
/// memory.
class Violations {
 public:
  explicit Violations(std::string device) : device_(std::move(device)) {}
  void add(std::string what);
  std::vector<std::string> list() const;

 private:
  static constexpr std::size_t kKept = 256;
  const std::string device_;
  mutable platform::Mutex mutex_;
  std::vector<std::string> list_;  // mutex_
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
