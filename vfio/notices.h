// SPDX-License-Identifier: Apache-2.0
// Private. What the kernel has to say about a function: give it back (the request eventfd), it has met an error.
#pragma once

#include <optional>

#include "base/event_fd.h"
#include "base/platform.h"
#include "device/control.h"
#include "vfio/device_file.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Thread-safe. Two eventfds, and one descriptor that is readable once one of them is. Nobody reads them: whoever waits for
/// the descriptor sees the notice, even if another thread has asked for it before.
class Notices {
 public:
  using Notice = device::DeviceControl::Notice;

  explicit Notices(DeviceFile& file) noexcept : file_(file) {}

  /// A function that offers neither has no notices. Errors: kSystem, kUnavailable, kDevice.
  Result<void> open();
  /// No notice comes any more. Idempotent.
  void close() noexcept;

  int fd() const noexcept { return watch_ ? watch_.get() : -1; }
  /// The first notice that was seen, for ever. When both have come by then it is the error: what is done about a request
  /// cannot be trusted to work any more.
  Notice get() noexcept;

 private:
  Result<std::optional<EventFd>> route(unsigned index);

  DeviceFile& file_;
  std::optional<EventFd> request_;  // const after open()
  std::optional<EventFd> error_;    // const after open()
  KernelFd watch_;                  // const after open()
  platform::Atomic<Notice> notice_{Notice::kNone};
};

}  // namespace upci::inline UPCI_VARIANT::vfio
