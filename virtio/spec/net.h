// SPDX-License-Identifier: Apache-2.0
// The network device: queues, configuration and the header before each frame. Section "Network Device".
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/variant.h"
#include "virtio/spec/features.h"

namespace upci::inline UPCI_VARIANT::virtio::spec::net {

// Section "Network Device / Virtqueues": pair n has 2n and 2n + 1; the control queue comes after the last pair.
inline constexpr std::uint16_t kReceiveQueue = 0;
inline constexpr std::uint16_t kTransmitQueue = 1;

// Section "Network Device / Device configuration layout": offsets into struct virtio_net_config.
namespace config {
inline constexpr std::uint32_t kMac = 0;             // 6 bytes, with MAC
inline constexpr std::uint32_t kStatus = 6;          // 16 bits, with STATUS
inline constexpr std::uint32_t kMaxPairs = 8;        // 16 bits, with MQ or RSS
inline constexpr std::uint32_t kMtu = 10;            // 16 bits, with MTU
inline constexpr std::uint32_t kSpeed = 12;          // 32 bits, Mbit/s, with SPEED_DUPLEX
inline constexpr std::uint32_t kDuplex = 16;         // 8 bits, with SPEED_DUPLEX
inline constexpr std::uint32_t kRssMaxKeySize = 17;  // 8 bits, with RSS or HASH_REPORT
inline constexpr std::uint32_t kRssMaxTable = 18;    // 16 bits, with RSS
inline constexpr std::uint32_t kHashTypes = 20;      // 32 bits, with RSS or HASH_REPORT
inline constexpr std::uint32_t kSize = 24;
}  // namespace config
inline constexpr std::size_t kMacBytes = 6;
inline constexpr std::uint16_t kMinMtu = 68;
inline constexpr std::uint16_t kMostPairs = 0x8000;
inline constexpr std::uint32_t kMostSpeed = 0x7fffffff;  // above: unknown

// "The device MUST set" these to at least so much, where it offers RSS or HASH_REPORT.
inline constexpr std::uint8_t kMinRssKey = 40;
inline constexpr std::uint16_t kMinRssTable = 128;

inline constexpr std::uint16_t kLinkUp = 1;
inline constexpr std::uint16_t kAnnounce = 2;

// Section "Network Device / Device Operation": struct virtio_net_hdr.
struct Header {
  std::uint8_t flags;
  std::uint8_t gso_type;
  std::uint16_t hdr_len;
  std::uint16_t gso_size;
  std::uint16_t csum_start;
  std::uint16_t csum_offset;
  std::uint16_t num_buffers;  // absent from the legacy header without MRG_RXBUF
};
inline constexpr std::size_t kHeaderBytes = 12;
/// Legacy devices without MRG_RXBUF leave num_buffers out. Section "Legacy Interface: Device Operation".
inline constexpr std::size_t kLegacyHeaderBytes = 10;
/// With HASH_REPORT: le32 hash_value, le16 hash_report, le16 padding come after num_buffers.
inline constexpr std::size_t kHashHeaderBytes = 20;
inline constexpr std::size_t kHashOffset = 12;
constexpr std::size_t header_bytes(bool version_1, bool mrg_rxbuf, bool hash_report = false) noexcept {
  if (hash_report) return kHashHeaderBytes;
  return version_1 || mrg_rxbuf ? kHeaderBytes : kLegacyHeaderBytes;
}

inline constexpr std::uint8_t kHeaderNeedsCsum = 1;
inline constexpr std::uint8_t kHeaderDataValid = 2;
inline constexpr std::uint8_t kGsoNone = 0;
inline constexpr std::uint8_t kGsoTcp4 = 1;
inline constexpr std::uint8_t kGsoUdp = 3;
inline constexpr std::uint8_t kGsoTcp6 = 4;
inline constexpr std::uint8_t kGsoUdpL4 = 5;
inline constexpr std::uint8_t kGsoEcn = 0x80;

inline constexpr std::size_t kEthernetHeaderBytes = 14;
inline constexpr std::size_t kMaxFrame = 1514;  // without VLAN tag and checksum, at an MTU of 1500
// Section "Setting Up Receive Buffers": the longest frame where the device may merge segments.
inline constexpr std::uint32_t kLargestReceive = 65589;

/// With any of these the driver may send frames that are longer than the MTU.
inline constexpr std::uint64_t kSegmentation = mask_of(net_feature::kHostTso4) | mask_of(net_feature::kHostTso6) |
                                               mask_of(net_feature::kHostUfo) | mask_of(net_feature::kHostUso);

/// With any of these the device may hand over frames that are longer than the MTU.
inline constexpr std::uint64_t kReceiveMerges = mask_of(net_feature::kGuestTso4) | mask_of(net_feature::kGuestTso6) |
                                                mask_of(net_feature::kGuestUfo) | mask_of(net_feature::kGuestUso4) |
                                                mask_of(net_feature::kGuestUso6);
/// What VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET turns on and off: its bits are those of the features.
inline constexpr std::uint64_t kReceiveOffloads =
    kReceiveMerges | mask_of(net_feature::kGuestCsum) | mask_of(net_feature::kGuestEcn);

// Section "Network Device / Device Operation / Control Virtqueue": classes, their commands, and the answer.
inline constexpr std::uint8_t kControlRx = 0;  // its commands are the receive modes, 0 to 5
inline constexpr std::uint8_t kControlMac = 1;
inline constexpr std::uint8_t kMacTableSet = 0;
inline constexpr std::uint8_t kMacAddressSet = 1;
inline constexpr std::uint8_t kControlVlan = 2;
inline constexpr std::uint8_t kVlanAdd = 0;
inline constexpr std::uint8_t kVlanDelete = 1;
inline constexpr std::uint8_t kControlAnnounce = 3;
inline constexpr std::uint8_t kAnnounceAck = 0;
inline constexpr std::uint8_t kControlMq = 4;
inline constexpr std::uint8_t kMqPairsSet = 0;
inline constexpr std::uint8_t kMqRssConfig = 1;
inline constexpr std::uint8_t kMqHashConfig = 2;
inline constexpr std::uint8_t kControlOffloads = 5;
inline constexpr std::uint8_t kOffloadsSet = 0;
inline constexpr std::uint8_t kControlOk = 0;

}  // namespace upci::inline UPCI_VARIANT::virtio::spec::net
