// SPDX-License-Identifier: Apache-2.0
// Private. What the platform holds against a function, as the kernel's log says: accesses that the IOMMU has refused, and PCI
// Express errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/platform.h"
#include "device/control.h"
#include "vfio/device_file.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Follows /dev/kmsg from open() on. Not every kernel lets everybody read that; then read() says so, and nothing else is
/// different. Thread-safe.
class Faults {
 public:
  explicit Faults(DeviceFile& file) noexcept : file_(file) {}

  /// From here on. Never fails: the log is a help, not a need.
  void open() noexcept;
  /// All faults of this function since open(), oldest first, at most kMost of them.
  device::DeviceControl::Evidence read();

  static constexpr std::size_t kMost = 64;

 private:
  DeviceFile& file_;
  platform::Mutex mutex_;
  KernelFd log_;                    // mutex_
  int refused_ = 0;                 // mutex_; why the log cannot be read: an errno, negative
  bool lost_ = false;               // mutex_; the kernel has overwritten what was not read yet
  std::vector<std::string> lines_;  // mutex_
};

/// The text of a record of /dev/kmsg, when an IOMMU says in it that it has refused an access of the function `address`
/// ("0000:65:00.0"), or the kernel that the function has reported an error (AER); otherwise "". Intel's IOMMU records name the
/// function without its domain.
std::string_view fault_in_record(std::string_view record, std::string_view address);

}  // namespace upci::inline UPCI_VARIANT::vfio
