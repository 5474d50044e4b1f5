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
#include "virtio/ring.h"
#include "virtio/spec/features.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// What a received frame's virtio header says.
struct ReceivedHeader {
  Offload offload;
  std::uint16_t buffers = 1;  // that the frame takes
  std::uint32_t hash = 0;
  HashReport hash_report = HashReport::kNone;
};

/// A value. The header lies right in front of the frame, so one segment holds both; except that section "Legacy Interface:
/// Framing Requirements" wants it in a descriptor of its own unless ANY_LAYOUT was negotiated.
class Framing {
 public:
  /// Buffers of one frame at most: 64 KiB in the smallest buffers that a pool has, and the header.
  static constexpr std::size_t kMostSegments = 40;

  explicit Framing(const virtio::Device& device) noexcept
      : merges_(device.has(virtio::spec::net_feature::kMrgRxbuf)),
        offloads_((device.features() & virtio::spec::net::kReceiveOffloads) != 0),
        hashes_(device.has(virtio::spec::net_feature::kHashReport)),
        header_(static_cast<std::uint32_t>(
            virtio::spec::net::header_bytes(device.has(virtio::spec::feature::kVersion1), merges_, hashes_))),
        split_(device.transport().legacy() && !device.has(virtio::spec::feature::kAnyLayout)) {}

  std::uint32_t header_bytes() const noexcept { return header_; }
  /// Descriptors that a frame in one buffer takes.
  std::uint16_t descriptors() const noexcept { return split_ ? 2 : 1; }
  /// Descriptors that this frame takes, its tables not counted.
  std::size_t descriptors(const Packet& packet) const noexcept {
    std::size_t count = descriptors();
    for (const Packet* part = packet.next; part != nullptr; part = part->next) ++count;
    return count;
  }
  /// Whether a received frame can take several buffers (MRG_RXBUF).
  bool merges() const noexcept { return merges_; }
  /// Whether a received frame's header can say anything.
  bool reads_header() const noexcept { return merges_ || offloads_ || hashes_; }

  /// Whether a frame in one buffer is one segment, header and all.
  bool one_segment() const noexcept { return !split_; }
  /// That segment, of a packet that is to be received into.
  virtio::Segment receive_segment(const Packet& packet) const noexcept {
    return {.iova = packet.iova - header_, .len = header_ + packet.capacity, .device_writes = true};
  }
  /// The same of a packet that is sent, with its header written.
  virtio::Segment transmit_segment(const Packet& packet) const noexcept {
    write_header(packet);
    return {.iova = packet.iova - header_, .len = header_ + packet.length, .device_writes = false};
  }

  using Chain = std::array<virtio::Segment, 2>;
  using LongChain = std::array<virtio::Segment, kMostSegments>;

  /// The chain of a packet that is to be received into. Valid until the chain's storage is reused.
  std::span<const virtio::Segment> receive(const Packet& packet, Chain& storage) const noexcept {
    return chain(packet.iova, packet.capacity, true, storage);
  }
  /// The chain of a frame in one buffer, with its header written.
  std::span<const virtio::Segment> transmit(const Packet& packet, Chain& storage) const noexcept {
    write_header(packet);
    return chain(packet.iova, packet.length, false, storage);
  }
  /// The chain of a frame in several buffers: descriptors(packet) is at most kMostSegments.
  std::span<const virtio::Segment> transmit_parts(const Packet& packet, LongChain& storage) const noexcept {
    write_header(packet);
    Chain first;
    std::size_t count = 0;
    for (const virtio::Segment& segment : chain(packet.iova, packet.length, false, first)) storage[count++] = segment;
    for (const Packet* part = packet.next; part != nullptr; part = part->next) {
      storage[count++] = {.iova = part->iova, .len = part->length, .device_writes = false};
    }
    return std::span(storage).first(count);
  }

  /// What the device wrote in front of the first buffer of a frame. Only where reads_header().
  ReceivedHeader read_header(const Packet& packet) const noexcept {
    ReceivedHeader header;
    const std::byte* const at = packet.data - header_;
    if (offloads_) std::memcpy(&header.offload, at, sizeof header.offload);
    if (merges_) std::memcpy(&header.buffers, at + sizeof(Offload), sizeof header.buffers);
    if (hashes_) read_hash(at + virtio::spec::net::kHashOffset, header);
    return header;
  }

 private:
  /// A report of a kind that there is not is none.
  static void read_hash(const std::byte* at, ReceivedHeader& header) noexcept {
    std::uint16_t report = 0;
    std::memcpy(&report, at + sizeof header.hash, sizeof report);
    if (report == 0 || report > static_cast<std::uint16_t>(HashReport::kUdpv6Ex)) return;
    std::memcpy(&header.hash, at, sizeof header.hash);
    header.hash_report = static_cast<HashReport>(report);
  }

  /// num_buffers stays 0: section "Packet Transmission", "the driver MUST set num_buffers to zero".
  void write_header(const Packet& packet) const noexcept {
    namespace net = virtio::spec::net;
    std::byte* const at = packet.data - header_;
    // In words that are put together in registers: what was stored in pieces and is then read as one would have to wait until all
    // stores before it, the frame's bytes among them, have got their cache lines.
    std::uint64_t first = 0;
    std::memcpy(&first, &packet.offload, sizeof first);
    put_if_new(at, first);
    const std::uint16_t last = packet.offload.csum_offset;
    if (header_ == net::kHeaderBytes) [[likely]] {
      put_if_new(at + sizeof first, std::uint32_t{last});
    } else if (header_ == net::kHashHeaderBytes) {
      put_if_new(at + sizeof first, std::uint64_t{last});
      put_if_new(at + 2 * sizeof first, std::uint32_t{0});
    } else {
      put_if_new(at + sizeof first, last);
    }
  }
  /// The device has the line in its CPU's cache, too: reading it costs nothing, writing it would take it from there.
  template <class T>
  static void put_if_new(std::byte* at, T value) noexcept {
    T there;
    std::memcpy(&there, at, sizeof there);
    if (there != value) std::memcpy(at, &value, sizeof value);
  }

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

  bool merges_;
  bool offloads_;
  bool hashes_;
  std::uint32_t header_;
  bool split_;
};
static_assert(virtio::spec::net::kHashHeaderBytes <= PacketPool::kHeadroom);

}  // namespace upci::inline UPCI_VARIANT::virtio_net
