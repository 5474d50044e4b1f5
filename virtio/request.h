// SPDX-License-Identifier: Apache-2.0
// One request to a device: what a driver puts into a queue and waits for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/error.h"
#include "virtio/ring.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// Memory that the device reaches, lent to one request at a time. Whoever gave up a request does not get its memory back
/// before the device has returned it, so that a late answer overwrites nothing.
struct RequestMemory {
  std::byte* va = nullptr;
  std::uint64_t iova = 0;
  std::size_t size = 0;
};

class Request {
 public:
  Request() = default;
  virtual ~Request() = default;

  /// Writes the request into `memory` and describes it, what the device reads first; returns how many segments it took, at
  /// least one. Runs in the thread that waits.
  virtual std::size_t prepare(const RequestMemory& memory, std::span<Segment> chain) = 0;
  /// The device has returned it and says that it wrote `length` bytes, which fit the segments; nothing else about them is
  /// certain. What it returns becomes the result. Runs in the thread that waits.
  virtual Result<void> finish(const RequestMemory& memory, std::uint32_t length) = 0;
  /// For messages: "a read of 8 sectors at 4096".
  virtual std::string describe() const = 0;

  /// How it ended. Valid once RequestDevice::run() has returned.
  Result<void> result = {};

 protected:
  Request(const Request&) = default;
  Request& operator=(const Request&) = default;
  Request(Request&&) = default;
  Request& operator=(Request&&) = default;

 private:
  friend class RequestQueue;
  bool ended_ = false;  // the thread that waits
};

}  // namespace upci::inline UPCI_VARIANT::virtio
