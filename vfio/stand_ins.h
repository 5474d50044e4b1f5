// SPDX-License-Identifier: Apache-2.0
// Private. What takes the place of a function that was given back: a descriptor that does nothing, and memory of ones.
#pragma once

#include <cstddef>
#include <memory>

#include "base/error.h"
#include "vfio/kernel.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Made while the function is opened, so that giving it back cannot fail for want of them. Immutable.
class StandIns {
 public:
  /// Errors: kSystem, kUnavailable.
  static Result<std::shared_ptr<const StandIns>> create(const std::shared_ptr<Kernel>& kernel);

  /// Reads nothing, refuses writes, knows no ioctl.
  int nothing() const noexcept { return nothing_.get(); }
  /// Replaces the mapping [at, at + len) by one that reads all ones, each part in one step. What is written there stays in
  /// this process and on that page. Never fails in a way that leaves the old mapping: in the worst case zeroes are read.
  void cover(std::byte* at, std::size_t len) const noexcept;

 private:
  StandIns(std::shared_ptr<Kernel> kernel, KernelFd nothing, KernelFd ones) noexcept
      : kernel_(std::move(kernel)), nothing_(std::move(nothing)), ones_(std::move(ones)) {}
  const std::shared_ptr<Kernel> kernel_;
  const KernelFd nothing_;
  const KernelFd ones_;  // kHugePage bytes of 0xff
};

}  // namespace upci::inline UPCI_VARIANT::vfio
