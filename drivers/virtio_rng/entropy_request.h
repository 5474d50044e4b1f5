// SPDX-License-Identifier: Apache-2.0
// A request for random bytes. Section "Entropy Device / Device Operation".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/error.h"
#include "virtio/request.h"

namespace upci::inline UPCI_VARIANT::virtio_rng {

class EntropyRequest final : public virtio::Request {
 public:
  explicit EntropyRequest(std::span<std::byte> into) noexcept : into_(into) {}

  /// "The driver MUST NOT place device-readable buffers into the queue."
  std::size_t prepare(const virtio::RequestMemory& memory, std::span<virtio::Segment> chain) override;
  /// "The driver MUST examine the length written by the device to determine how many random bytes were received."
  Result<void> finish(const virtio::RequestMemory& memory, std::uint32_t length) override;
  std::string describe() const override;

  /// Bytes received, once the request has ended well.
  std::size_t received() const noexcept { return received_; }

 private:
  const std::span<std::byte> into_;
  std::size_t asked_ = 0;
  std::size_t received_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_rng
