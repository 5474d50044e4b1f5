// SPDX-License-Identifier: Apache-2.0
// How a frame and its virtio header become a chain. Section "Network Device / Device Operation".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "drivers/virtio_net/packet.h"
#include "drivers/virtio_net/packet_pool.h"
#include "virtio/driver.h"
#include "virtio/spec/features.h"
#include "virtio/spec/net.h"
#include "virtio/split_ring.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// A value. The header lies right in front of the frame, so one segment holds both; except that section "Legacy Interface:
/// Framing Requirements" wants it in a descriptor of its own unless ANY_LAYOUT was negotiated.
class Framing {
 public:
  explicit Framing(const virtio::Device& device) noexcept
      : header_(static_cast<std::uint32_t>(
            virtio::spec::net::header_bytes(device.has(virtio::spec::feature::kVersion1), false))),
        split_(device.transport().legacy() && !device.has(virtio::spec::feature::kAnyLayout)) {}

  std::uint32_t header_bytes() const noexcept { return header_; }
  /// Descriptors that a packet takes.
  std::uint16_t descriptors() const noexcept { return split_ ? 2 : 1; }

  using Chain = std::array<virtio::Segment, 2>;
  /// The chain of a packet that is to be received into, or sent with its header cleared: no offload is negotiated, so every
  /// field of the header is 0. Valid until the chain's storage is reused.
  std::span<const virtio::Segment> receive(const Packet& packet, Chain& storage) const noexcept {
    return chain(packet.iova, packet.capacity, true, storage);
  }
  std::span<const virtio::Segment> transmit(const Packet& packet, Chain& storage) const noexcept {
    std::memset(packet.data - header_, 0, header_);
    return chain(packet.iova, packet.length, false, storage);
  }

 private:
  std::span<const virtio::Segment> chain(std::uint64_t iova, std::uint32_t length, bool device_writes,
                                         Chain& storage) const noexcept {
    if (!split_) [[likely]] {
      storage[0] = {.iova = iova - header_, .len = header_ + length, .device_writes = device_writes};
      return std::span(storage).first(1);
    }
    storage[0] = {.iova = iova - header_, .len = header_, .device_writes = device_writes};
    storage[1] = {.iova = iova, .len = length, .device_writes = device_writes};
    return storage;
  }

  std::uint32_t header_;
  bool split_;
};
static_assert(virtio::spec::net::kHeaderBytes <= PacketPool::kHeadroom);

}  // namespace upci::inline UPCI_VARIANT::virtio_net
