// SPDX-License-Identifier: Apache-2.0
// The buffers of one card: DMA memory, cut into slots of equal size.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "device/device.h"
#include "drivers/virtio_net/packet.h"
#include "virtio/driver.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// All members are thread-safe; one lock for a whole burst.
class PacketPool {
 public:
  /// Bytes in front of each frame: the virtio header lies at their end, so that it and the frame are one segment.
  static constexpr std::uint32_t kHeadroom = 128;

  /// `count` packets that hold frames of at least `frame_bytes`. A device that bypasses the IOMMU needs physically contiguous
  /// memory, which comes in small pieces: the pool then consists of many. Errors: those of Device::dma_alloc.
  static Result<PacketPool> create(const virtio::Device& device, std::size_t count, std::uint32_t frame_bytes);
  PacketPool(PacketPool&& other) noexcept;

  /// Takes packets; they are single, their length and offload are 0. First those that were used for the same before, in the order
  /// in which they were freed: their virtio header is as it should be, and in a receive ring they find their old descriptors.
  /// `keep` of all that are there stay, for somebody else.
  std::size_t alloc(std::span<Packet*> packets, PacketUse use, std::size_t keep = 0) noexcept;
  /// Gives packets back, and what is linked to them.
  void free(std::span<Packet* const> packets) noexcept;
  std::size_t size() const noexcept { return packets_.size(); }
  std::uint32_t packet_bytes() const noexcept { return packet_bytes_; }

  /// Makes data begin `bytes` earlier, until alloc() gives the packet out again: in a buffer that continues a frame there is no
  /// virtio header, and its bytes begin where that would be.
  static void move_data(Packet& packet, std::uint32_t bytes) noexcept {
    packet.data -= bytes;
    packet.iova -= bytes;
    packet.capacity += bytes;
    packet.moved = static_cast<std::uint16_t>(bytes);
  }

 private:
  /// The packet used last is the likeliest in the cache. Never holds more than the pool has.
  struct Stack {
    std::vector<Packet*> packets;  // as many as the pool has; those below `count` are free
    std::size_t count = 0;
  };
  Stack& stack(PacketUse use) noexcept { return free_[static_cast<std::size_t>(use)]; }

  PacketPool(std::vector<device::DmaBuffer> memory, std::vector<Packet> packets);

  std::vector<device::DmaBuffer> memory_;  // const after construction
  std::vector<Packet> packets_;            // const after construction; what is in a packet belongs to who holds it
  std::uint32_t packet_bytes_ = 0;         // const after construction
  platform::Mutex mutex_;
  std::array<Stack, 2> free_;  // mutex_; by PacketUse
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
