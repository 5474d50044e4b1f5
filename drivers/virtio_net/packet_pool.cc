// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_net/packet_pool.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "virtio/queue.h"

namespace upci::inline UPCI_VARIANT::virtio_net {
namespace {

constexpr std::uint32_t kPairOfLines = 128;
constexpr std::uint32_t kSmallestSlot = 2048;
// What is asked for at once where it must be physically contiguous: fits a huge page many times.
constexpr std::size_t kPhysicalPiece = 64 * 1024;

}  // namespace

Result<PacketPool> PacketPool::create(const virtio::Device& device, std::size_t count, std::uint32_t frame_bytes) {
  const std::uint32_t pairs = std::max(kSmallestSlot, kHeadroom + frame_bytes + kPairOfLines - 1) / kPairOfLines;
  const std::uint32_t slot = (pairs | 1U) * kPairOfLines;
  const bool physical = virtio::dma_kind(device) == device::DmaKind::kPhysical;
  std::size_t piece = physical ? std::max<std::size_t>(1, kPhysicalPiece / slot) : count;
  std::vector<device::DmaBuffer> memory;
  std::vector<Packet> packets;
  packets.reserve(count);
  while (packets.size() < count) {
    piece = std::min(piece, count - packets.size());
    auto buffer = virtio::alloc_buffers(device, piece * slot);
    if (!buffer && piece > 1 && buffer.error().code != Errc::kVerdict) {
      piece /= 2;  // less may still be there in one piece
      continue;
    }
    if (!buffer) return std::unexpected(std::move(buffer).error());
    for (std::size_t i = 0; i < piece; ++i) {
      Packet& packet = packets.emplace_back();
      packet.data = buffer->va() + i * slot + kHeadroom;
      packet.iova = buffer->iova() + i * slot + kHeadroom;
      packet.capacity = slot - kHeadroom;
    }
    memory.push_back(std::move(*buffer));
  }
  return PacketPool(std::move(memory), std::move(packets));
}

PacketPool::PacketPool(std::vector<device::DmaBuffer> memory, std::vector<Packet> packets)
    : memory_(std::move(memory)), packets_(std::move(packets)), packet_bytes_(packets_.front().capacity) {
  free_.reserve(packets_.size());
  for (std::size_t i = packets_.size(); i-- > 0;) free_.push_back(&packets_[i]);
}

// Only while it is made: nobody else knows it yet. The packets stay where they are.
PacketPool::PacketPool(PacketPool&& other) noexcept
    : memory_(std::move(other.memory_)),
      packets_(std::move(other.packets_)),
      packet_bytes_(other.packet_bytes_),
      free_(std::move(other.free_)) {}

std::size_t PacketPool::alloc(std::span<Packet*> packets, std::size_t keep) noexcept {
  std::size_t count = 0;
  {
    const std::lock_guard lock(mutex_);
    count = std::min(packets.size(), free_.size() - std::min(free_.size(), keep));
    std::copy(free_.end() - static_cast<std::ptrdiff_t>(count), free_.end(), packets.begin());
    free_.resize(free_.size() - count);
  }
  for (Packet* packet : packets.first(count)) {
    packet->length = 0;
    packet->next = nullptr;
    packet->offload = {};
    if (packet->moved == 0) [[likely]]
      continue;
    packet->data += packet->moved;
    packet->iova += packet->moved;
    packet->capacity -= packet->moved;
    packet->moved = 0;
  }
  return count;
}

void PacketPool::free(std::span<Packet* const> packets) noexcept {
  const std::lock_guard lock(mutex_);
  // Never more than the reserved capacity, so it cannot throw, unless somebody frees a packet twice.
  for (Packet* packet : packets) {
    for (; packet != nullptr && free_.size() < packets_.size(); packet = packet->next) free_.push_back(packet);
  }
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
