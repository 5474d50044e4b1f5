// SPDX-License-Identifier: Apache-2.0
// Feature bits by name. Sections "Reserved Feature Bits", "Network Device / Feature bits", "Block Device / Feature bits" and
// "Legacy Interface: Feature bits". Names are the specification's without VIRTIO_F_, VIRTIO_NET_F_ and VIRTIO_BLK_F_.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio::spec {

/// Bits that mean the same for every device type.
namespace feature {
inline constexpr unsigned kNotifyOnEmpty = 24;  // legacy only
inline constexpr unsigned kAnyLayout = 27;      // legacy only
inline constexpr unsigned kIndirectDesc = 28;
inline constexpr unsigned kEventIdx = 29;
inline constexpr unsigned kVersion1 = 32;
inline constexpr unsigned kAccessPlatform = 33;
inline constexpr unsigned kRingPacked = 34;
inline constexpr unsigned kInOrder = 35;
inline constexpr unsigned kOrderPlatform = 36;
inline constexpr unsigned kSrIov = 37;
inline constexpr unsigned kNotificationData = 38;
inline constexpr unsigned kNotifConfigData = 39;
inline constexpr unsigned kRingReset = 40;
inline constexpr unsigned kAdminVq = 41;
inline constexpr unsigned kSuspend = 43;  // virtio 1.4
}  // namespace feature

/// Bits of the network device.
namespace net_feature {
inline constexpr unsigned kCsum = 0;
inline constexpr unsigned kGuestCsum = 1;
inline constexpr unsigned kCtrlGuestOffloads = 2;
inline constexpr unsigned kMtu = 3;
inline constexpr unsigned kMac = 5;
inline constexpr unsigned kGso = 6;  // legacy only
inline constexpr unsigned kGuestTso4 = 7;
inline constexpr unsigned kGuestTso6 = 8;
inline constexpr unsigned kGuestEcn = 9;
inline constexpr unsigned kGuestUfo = 10;
inline constexpr unsigned kHostTso4 = 11;
inline constexpr unsigned kHostTso6 = 12;
inline constexpr unsigned kHostEcn = 13;
inline constexpr unsigned kHostUfo = 14;
inline constexpr unsigned kMrgRxbuf = 15;
inline constexpr unsigned kStatus = 16;
inline constexpr unsigned kCtrlVq = 17;
inline constexpr unsigned kCtrlRx = 18;
inline constexpr unsigned kCtrlVlan = 19;
inline constexpr unsigned kCtrlRxExtra = 20;
inline constexpr unsigned kGuestAnnounce = 21;
inline constexpr unsigned kMq = 22;
inline constexpr unsigned kCtrlMacAddr = 23;
inline constexpr unsigned kNotfCoal = 53;
inline constexpr unsigned kGuestUso4 = 54;
inline constexpr unsigned kGuestUso6 = 55;
inline constexpr unsigned kHostUso = 56;
inline constexpr unsigned kHashReport = 57;
inline constexpr unsigned kGuestHdrlen = 59;
inline constexpr unsigned kRss = 60;
inline constexpr unsigned kRscExt = 61;
inline constexpr unsigned kStandby = 62;
inline constexpr unsigned kSpeedDuplex = 63;
}  // namespace net_feature

/// Bits of the block device.
namespace blk_feature {
inline constexpr unsigned kBarrier = 0;  // legacy only
inline constexpr unsigned kSizeMax = 1;
inline constexpr unsigned kSegMax = 2;
inline constexpr unsigned kGeometry = 4;
inline constexpr unsigned kRo = 5;
inline constexpr unsigned kBlkSize = 6;
inline constexpr unsigned kScsi = 7;  // legacy only
inline constexpr unsigned kFlush = 9;
inline constexpr unsigned kTopology = 10;
inline constexpr unsigned kConfigWce = 11;
inline constexpr unsigned kMq = 12;
inline constexpr unsigned kDiscard = 13;
inline constexpr unsigned kWriteZeroes = 14;
inline constexpr unsigned kLifetime = 15;
inline constexpr unsigned kSecureErase = 16;
inline constexpr unsigned kZoned = 17;
}  // namespace blk_feature

struct FeatureName {
  std::string_view name;
  unsigned bit;
};

inline constexpr FeatureName kCommonFeatureNames[] = {
    {"NOTIFY_ON_EMPTY", feature::kNotifyOnEmpty},
    {"ANY_LAYOUT", feature::kAnyLayout},
    {"INDIRECT_DESC", feature::kIndirectDesc},
    {"EVENT_IDX", feature::kEventIdx},
    {"VERSION_1", feature::kVersion1},
    {"ACCESS_PLATFORM", feature::kAccessPlatform},
    {"RING_PACKED", feature::kRingPacked},
    {"IN_ORDER", feature::kInOrder},
    {"ORDER_PLATFORM", feature::kOrderPlatform},
    {"SR_IOV", feature::kSrIov},
    {"NOTIFICATION_DATA", feature::kNotificationData},
    {"NOTIF_CONFIG_DATA", feature::kNotifConfigData},
    {"RING_RESET", feature::kRingReset},
    {"ADMIN_VQ", feature::kAdminVq},
    {"SUSPEND", feature::kSuspend},
};

inline constexpr FeatureName kNetFeatureNames[] = {
    {"CSUM", net_feature::kCsum},
    {"GUEST_CSUM", net_feature::kGuestCsum},
    {"CTRL_GUEST_OFFLOADS", net_feature::kCtrlGuestOffloads},
    {"MTU", net_feature::kMtu},
    {"MAC", net_feature::kMac},
    {"GSO", net_feature::kGso},
    {"GUEST_TSO4", net_feature::kGuestTso4},
    {"GUEST_TSO6", net_feature::kGuestTso6},
    {"GUEST_ECN", net_feature::kGuestEcn},
    {"GUEST_UFO", net_feature::kGuestUfo},
    {"HOST_TSO4", net_feature::kHostTso4},
    {"HOST_TSO6", net_feature::kHostTso6},
    {"HOST_ECN", net_feature::kHostEcn},
    {"HOST_UFO", net_feature::kHostUfo},
    {"MRG_RXBUF", net_feature::kMrgRxbuf},
    {"STATUS", net_feature::kStatus},
    {"CTRL_VQ", net_feature::kCtrlVq},
    {"CTRL_RX", net_feature::kCtrlRx},
    {"CTRL_VLAN", net_feature::kCtrlVlan},
    {"CTRL_RX_EXTRA", net_feature::kCtrlRxExtra},
    {"GUEST_ANNOUNCE", net_feature::kGuestAnnounce},
    {"MQ", net_feature::kMq},
    {"CTRL_MAC_ADDR", net_feature::kCtrlMacAddr},
    {"NOTF_COAL", net_feature::kNotfCoal},
    {"GUEST_USO4", net_feature::kGuestUso4},
    {"GUEST_USO6", net_feature::kGuestUso6},
    {"HOST_USO", net_feature::kHostUso},
    {"HASH_REPORT", net_feature::kHashReport},
    {"GUEST_HDRLEN", net_feature::kGuestHdrlen},
    {"RSS", net_feature::kRss},
    {"RSC_EXT", net_feature::kRscExt},
    {"STANDBY", net_feature::kStandby},
    {"SPEED_DUPLEX", net_feature::kSpeedDuplex},
};

inline constexpr FeatureName kBlkFeatureNames[] = {
    {"BARRIER", blk_feature::kBarrier},
    {"SIZE_MAX", blk_feature::kSizeMax},
    {"SEG_MAX", blk_feature::kSegMax},
    {"GEOMETRY", blk_feature::kGeometry},
    {"RO", blk_feature::kRo},
    {"BLK_SIZE", blk_feature::kBlkSize},
    {"SCSI", blk_feature::kScsi},
    {"FLUSH", blk_feature::kFlush},
    {"TOPOLOGY", blk_feature::kTopology},
    {"CONFIG_WCE", blk_feature::kConfigWce},
    {"MQ", blk_feature::kMq},
    {"DISCARD", blk_feature::kDiscard},
    {"WRITE_ZEROES", blk_feature::kWriteZeroes},
    {"LIFETIME", blk_feature::kLifetime},
    {"SECURE_ERASE", blk_feature::kSecureErase},
    {"ZONED", blk_feature::kZoned},
};

/// The 64-bit mask of one feature bit.
constexpr std::uint64_t mask_of(unsigned bit) noexcept { return std::uint64_t{1} << bit; }

/// The names of the bits that only this device type has; empty for types without a table.
constexpr std::span<const FeatureName> device_feature_names(std::uint32_t device_id) noexcept {
  if (device_id == 1) return kNetFeatureNames;
  if (device_id == 2) return kBlkFeatureNames;
  return {};
}

/// The bit that a name stands for, or nothing. Names are in capitals.
constexpr std::optional<unsigned> feature_bit(std::uint32_t device_id, std::string_view name) noexcept {
  for (const FeatureName& entry : kCommonFeatureNames) {
    if (entry.name == name) return entry.bit;
  }
  for (const FeatureName& entry : device_feature_names(device_id)) {
    if (entry.name == name) return entry.bit;
  }
  return std::nullopt;
}

/// The name of a bit, or an empty view when the tables do not know it.
constexpr std::string_view feature_name(std::uint32_t device_id, unsigned bit) noexcept {
  for (const FeatureName& entry : kCommonFeatureNames) {
    if (entry.bit == bit) return entry.name;
  }
  for (const FeatureName& entry : device_feature_names(device_id)) {
    if (entry.bit == bit) return entry.name;
  }
  return {};
}

}  // namespace upci::inline UPCI_VARIANT::virtio::spec
