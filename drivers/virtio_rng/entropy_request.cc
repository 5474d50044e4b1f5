// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_rng/entropy_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace upci::inline UPCI_VARIANT::virtio_rng {

std::size_t EntropyRequest::prepare(const virtio::RequestMemory& memory, std::span<virtio::Segment> chain) {
  asked_ = std::min(into_.size(), memory.size);
  chain[0] = {.iova = memory.iova, .len = static_cast<std::uint32_t>(asked_), .device_writes = true};
  return 1;
}

Result<void> EntropyRequest::finish(const virtio::RequestMemory& memory, std::uint32_t length) {
  if (length == 0 || length > asked_) {
    return std::unexpected(
        Error{.code = Errc::kDevice,
              .what = fmt::format("the entropy device says that it wrote {} of {} bytes", length, asked_),
              .advice = "it must write at least one and no more than it is asked for: the device is broken",
              .step = "request",
              .reg = "used.len"});
  }
  std::memcpy(into_.data(), memory.va, length);
  // What was random once must not be found in memory by whoever asks next, nor be taken for new by a device that writes
  // less than it says.
  std::memset(memory.va, 0, asked_);
  received_ = length;
  return {};
}

std::string EntropyRequest::describe() const { return fmt::format("a request for {} random bytes", asked_); }

}  // namespace upci::inline UPCI_VARIANT::virtio_rng
