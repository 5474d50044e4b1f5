// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/error.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT {

/// A non-blocking, close-on-exec eventfd: what an interrupt vector is in userspace. Thread-safe.
class EventFd {
 public:
  /// Errors: kSystem when the process is out of descriptors.
  static Result<EventFd> create();

  int fd() const noexcept { return fd_.get(); }
  /// Adds one to the counter; wakes whoever waits for the descriptor.
  void signal() const noexcept;
  /// Takes the counter and sets it to 0; returns 0 when nothing was signalled.
  std::uint64_t drain() const noexcept;

 private:
  explicit EventFd(UniqueFd fd) noexcept : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace upci::inline UPCI_VARIANT
