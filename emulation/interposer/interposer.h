// SPDX-License-Identifier: Apache-2.0
// A backend around another one, real or emulated, that gives its driver a faulty platform. The device itself stays as it is:
// what goes wrong, goes wrong between it and memory or between it and a CPU.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "pci/backend.h"

namespace upci::inline UPCI_VARIANT::emulation::interposer {

struct FaultDescription {
  std::string_view name;  // fault=NAME
  std::string_view what;  // what the platform does
};
/// The faults that wrap() takes, for help and tests.
std::vector<FaultDescription> faults();
bool is_fault(std::string_view name) noexcept;

/// Errors: kInvalid for a fault that does not exist.
Result<std::shared_ptr<pci::Backend>> wrap(std::shared_ptr<pci::Backend> backend, std::string_view fault);

}  // namespace upci::inline UPCI_VARIANT::emulation::interposer
