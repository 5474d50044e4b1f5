// SPDX-License-Identifier: Apache-2.0
// A frame in memory that the network card can reach.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/variant.h"
#include "drivers/virtio_net/steering.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// What the virtio header says of a frame beside its bytes; all 0: nothing. Section "Network Device / Device Operation",
/// struct virtio_net_hdr, whose first ten bytes these are; the constants are in virtio/spec/net.h.
struct Offload {
  std::uint8_t flags = 0;          // kHeaderNeedsCsum, kHeaderDataValid
  std::uint8_t gso_type = 0;       // kGsoNone, kGsoTcp4, ...; kGsoEcn may be added
  std::uint16_t header_bytes = 0;  // up to the end of the transport header, where gso_type is given: a hint
  std::uint16_t gso_size = 0;      // bytes of payload in each segment
  std::uint16_t csum_start = 0;    // where the checksum begins to count, from the frame's begin
  std::uint16_t csum_offset = 0;   // where it goes, from csum_start

  bool any() const noexcept { return flags != 0 || gso_type != 0; }
};
static_assert(sizeof(Offload) == 10);

/// What a packet is taken out of the pool for.
enum class PacketUse : std::uint8_t { kSend, kReceive };

/// One buffer of a Nic's pool. Whoever holds it may write data[0..capacity), length, next and offload; everything else
/// belongs to the pool. Room for the virtio header lies in front of data, so that a frame needs no copy and one descriptor.
///
/// A frame that is longer than a buffer takes several, linked by next: the first one stands for all of them, in tx_burst,
/// rx_burst, receivers and free alike.
struct alignas(64) Packet {
  std::byte* data = nullptr;     // the pool's
  std::uint64_t iova = 0;        // of data; the pool's
  std::uint32_t capacity = 0;    // bytes that fit at data; the pool's
  std::uint32_t length = 0;      // bytes of the frame that are in this buffer; without a checksum at the end
  Packet* next = nullptr;        // the rest of the frame; null in its last buffer
  Offload offload;               // of the frame: in its first buffer
  std::uint16_t queue_pair = 0;  // that it came by: in its first buffer
  std::uint16_t moved = 0;       // bytes that data lies before where it belongs; the pool's
  std::uint32_t hash = 0;  // of a received frame, where hash_report says of what (HASH_REPORT): in its first buffer
  HashReport hash_report = HashReport::kNone;
  PacketUse use = PacketUse::kSend;  // what it was last taken out of the pool for; the pool's

  std::span<std::byte> bytes() noexcept { return {data, length}; }
  /// Bytes of the whole frame.
  std::size_t frame_bytes() const noexcept {
    std::size_t sum = 0;
    for (const Packet* part = this; part != nullptr; part = part->next) sum += part->length;
    return sum;
  }
};
static_assert(sizeof(Packet) == 64);

}  // namespace upci::inline UPCI_VARIANT::virtio_net
