// SPDX-License-Identifier: Apache-2.0
// A frame in memory that the network card can reach.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// One buffer of a Nic's pool. Whoever holds it may write data[0..capacity) and set length; everything else belongs to the
/// pool. Room for the virtio header lies in front of data, so that a frame needs no copy and one descriptor.
struct Packet {
  std::byte* data = nullptr;   // const after the pool was made
  std::uint64_t iova = 0;      // of data; const after the pool was made
  std::uint32_t capacity = 0;  // bytes that fit at data; const after the pool was made
  std::uint32_t length = 0;    // bytes of the frame: set by who sends, or by rx_burst; without a checksum at the end

  std::span<std::byte> bytes() noexcept { return {data, length}; }
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
