// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/violations.h"

#include <utility>

#include "base/log.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

void Violations::add(std::string what) {
  {
    const std::lock_guard lock(mutex_);
    if (list_.size() == kKept) return;
    list_.push_back(what);
  }
  log::warn("{}: the driver breaks the specification: {}", device_, what);
}

std::vector<std::string> Violations::list() const {
  const std::lock_guard lock(mutex_);
  return list_;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
