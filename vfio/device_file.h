// SPDX-License-Identifier: Apache-2.0
// Private. The descriptor of one opened function.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/platform.h"
#include "vfio/kernel.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Thread-safe without a lock, so that an access that hangs holds nobody up: the number stays valid until the destructor,
/// and only what is behind it changes, once.
class DeviceFile {
 public:
  /// Owns `fd`. `name` begins what errors say; `address` is the kernel's name for the function.
  DeviceFile(std::shared_ptr<Kernel> kernel, int fd, std::string name, std::string address) noexcept
      : kernel_(std::move(kernel)), fd_(fd), name_(std::move(name)), address_(std::move(address)) {}

  ~DeviceFile() {
    if (const int own = fd(); own >= 0) kernel_->close(own);
  }
  DeviceFile(const DeviceFile&) = delete;
  DeviceFile& operator=(const DeviceFile&) = delete;

  Kernel& kernel() const noexcept { return *kernel_; }
  const std::shared_ptr<Kernel>& shared_kernel() const noexcept { return kernel_; }
  int fd() const noexcept { return fd_.load(std::memory_order_relaxed); }
  const std::string& name() const noexcept { return name_; }
  const std::string& address() const noexcept { return address_; }

  /// The errno, negative, or what the kernel answered.
  template <class T>
  int ioctl(unsigned long request, T* argument) const {
    return kernel_->ioctl(fd(), request, argument_of(argument));
  }
  int ioctl(unsigned long request) const { return kernel_->ioctl(fd(), request, 0); }

  /// The device's own file is closed, as far as this descriptor goes; `nothing` takes its place. One thread, once.
  void surrender(int nothing) noexcept {
    surrendered_.store(true, std::memory_order_release);
    // Should the kernel not replace it, it is closed: what matters is that the device is let go.
    if (kernel_->replace(fd(), nothing) < 0) kernel_->close(fd_.exchange(-1));
  }
  bool surrendered() const noexcept { return surrendered_.load(std::memory_order_acquire); }

 private:
  const std::shared_ptr<Kernel> kernel_;
  platform::Atomic<int> fd_;
  const std::string name_;
  const std::string address_;
  platform::Atomic<bool> surrendered_{false};
};

}  // namespace upci::inline UPCI_VARIANT::vfio
