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
  for (Stack& one : free_) one.packets.resize(packets_.size());
  // All are alike; half of them begin on either side.
  for (std::size_t i = packets_.size(); i-- > 0;) {
    packets_[i].use = i % 2 == 0 ? PacketUse::kSend : PacketUse::kReceive;
    Stack& free = stack(packets_[i].use);
    free.packets[free.count++] = &packets_[i];
  }
}

// Only while it is made: nobody else knows it yet. The packets stay where they are.
PacketPool::PacketPool(PacketPool&& other) noexcept
    : memory_(std::move(other.memory_)),
      packets_(std::move(other.packets_)),
      packet_bytes_(other.packet_bytes_),
      free_(std::move(other.free_)) {}

std::size_t PacketPool::alloc(std::span<Packet*> packets, PacketUse use, std::size_t keep) noexcept {
  std::size_t count = 0;
  {
    const std::lock_guard lock(mutex_);
    const std::size_t all = free_[0].count + free_[1].count;
    const std::size_t want = std::min(packets.size(), all - std::min(all, keep));
    const PacketUse other = use == PacketUse::kSend ? PacketUse::kReceive : PacketUse::kSend;
    for (const PacketUse from : {use, other}) {
      Stack& free = stack(from);
      const std::size_t taken = std::min(want - count, free.count);
      free.count -= taken;
      std::copy_n(free.packets.data() + free.count, taken, packets.data() + count);
      count += taken;
    }
  }
  for (Packet* packet : packets.first(count)) {
    packet->length = 0;
    packet->next = nullptr;
    packet->offload = {};
    packet->use = use;
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
  for (Packet* packet : packets) {
    for (; packet != nullptr; packet = packet->next) {
      Stack& free = stack(packet->use);
      // It is full only when somebody frees a packet twice.
      if (free.count == free.packets.size()) [[unlikely]]
        return;
      free.packets[free.count++] = packet;
    }
  }
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
