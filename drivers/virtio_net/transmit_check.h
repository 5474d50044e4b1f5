// SPDX-License-Identifier: Apache-2.0
// What an application hands to tx_burst is checked before the card sees it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "drivers/virtio_net/framing.h"
#include "drivers/virtio_net/packet.h"
#include "virtio/driver.h"
#include "virtio/spec/features.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// A value: what was negotiated for frames that are sent.
class TransmitCheck {
 public:
  /// `ring_size`: descriptors of the queue, which no chain may exceed.
  TransmitCheck(const virtio::Device& device, const Framing& framing, std::uint16_t ring_size,
                std::uint16_t mtu) noexcept
      : features_(device.features()),
        longest_plain_(has(virtio::spec::net_feature::kMtu) ? std::size_t{mtu} + kHeaderAndTag : kLongest),
        most_segments_(std::min<std::size_t>(Framing::kMostSegments, ring_size) -
                       static_cast<std::size_t>(framing.descriptors() - 1)) {}

  /// The frame's length; 0 when it must not be sent: a length that no frame or buffer can have, too many buffers, or a header
  /// that asks for what was not negotiated. Section "Packet Transmission".
  std::size_t frame_bytes(const Packet& packet) const noexcept {
    namespace net = virtio::spec::net;
    if (packet.length < net::kEthernetHeaderBytes || packet.length > packet.capacity) [[unlikely]]
      return 0;
    std::size_t length = packet.length;
    if (packet.next != nullptr) [[unlikely]]
      length = chain_bytes(packet);
    if (packet.offload.any() && !allowed(packet.offload, length)) [[unlikely]]
      return 0;
    // Section "Device configuration layout": with MTU "it MUST NOT transmit packets of size exceeding the value of mtu (plus
    // low level ethernet header length) with gso_type NONE or ECN".
    return length <= longest_plain_ || packet.offload.gso_type != 0 ? length : 0;
  }

 private:
  static constexpr std::size_t kHeaderAndTag = virtio::spec::net::kEthernetHeaderBytes + 4;
  /// The longest that a segmentation offload can be given: 64 KiB of IP packet behind its header.
  static constexpr std::size_t kLongest = 65535 + kHeaderAndTag;

  std::size_t chain_bytes(const Packet& packet) const noexcept {
    std::size_t length = packet.length;
    std::size_t segments = 1;
    for (const Packet* part = packet.next; part != nullptr; part = part->next) {
      if (part->length == 0 || part->length > part->capacity || ++segments > most_segments_) return 0;
      length += part->length;
    }
    return length <= kLongest ? length : 0;
  }

  bool has(unsigned bit) const noexcept { return ((features_ >> bit) & 1U) != 0; }

  bool allowed(const Offload& offload, std::size_t length) const noexcept {
    namespace net = virtio::spec::net;
    namespace feature = virtio::spec::net_feature;
    if ((offload.flags & ~net::kHeaderNeedsCsum) != 0) return false;
    const bool sums = (offload.flags & net::kHeaderNeedsCsum) != 0;
    if (sums && (!has(feature::kCsum) || std::size_t{offload.csum_start} + offload.csum_offset + 2 > length))
      return false;
    if (offload.gso_type == net::kGsoNone) return true;
    // "If gso_type differs from VIRTIO_NET_HDR_GSO_NONE, then the driver MUST also set the VIRTIO_NET_HDR_F_NEEDS_CSUM bit in
    // flags and MUST set gso_size".
    if (!sums || offload.gso_size == 0 || offload.header_bytes > length) return false;
    const bool ecn = (offload.gso_type & net::kGsoEcn) != 0;
    switch (offload.gso_type & ~net::kGsoEcn) {
      case net::kGsoTcp4: return has(feature::kHostTso4) && (!ecn || has(feature::kHostEcn));
      case net::kGsoTcp6: return has(feature::kHostTso6) && (!ecn || has(feature::kHostEcn));
      case net::kGsoUdp: return !ecn && has(feature::kHostUfo);
      case net::kGsoUdpL4: return !ecn && has(feature::kHostUso);
      default: return false;
    }
  }

  std::uint64_t features_;
  std::size_t longest_plain_;
  std::size_t most_segments_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
