// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT {

/// A domain of works that run alike: here, with normal or with high priority. What it is given runs in the pools of its
/// engine; it has no threads of its own. Kernel: struct workqueue_struct.
class Workqueue {
 public:
  enum class Priority : std::uint8_t { kNormal, kHigh };

  Workqueue(int number, std::string name, Priority priority)
      : number_(number), name_(std::move(name)), priority_(priority) {}
  Workqueue(const Workqueue&) = delete;
  Workqueue& operator=(const Workqueue&) = delete;

  /// Its place in the engine; a queued work carries it.
  int number() const noexcept { return number_; }
  const std::string& name() const noexcept { return name_; }
  Priority priority() const noexcept { return priority_; }

 private:
  const int number_;
  const std::string name_;
  const Priority priority_;
};

}  // namespace upci::inline UPCI_VARIANT
