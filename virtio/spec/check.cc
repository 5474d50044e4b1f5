// SPDX-License-Identifier: Apache-2.0
// Compares the tables with the kernel's user API headers. Nothing here runs.
#include <linux/if_ether.h>
#include <linux/types.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_types.h>

// Two of the headers are C only: one has a member called `class`, the other an inline function that converts void*.
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
#define class command_class
#include <linux/virtio_net.h>
#undef class
#if defined(__clang__)
#pragma clang diagnostic pop
#endif
#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_ring.h>

#include <bit>
#include <cstddef>

#include "virtio/spec/blk.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"
#include "virtio/spec/net.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/ring.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::virtio::spec {

static_assert(std::endian::native == std::endian::little, "the ring and register code assumes a little-endian machine");

static_assert(kDeviceNet == VIRTIO_ID_NET && kDeviceBlock == VIRTIO_ID_BLOCK && kDeviceConsole == VIRTIO_ID_CONSOLE);
static_assert(kDeviceEntropy == VIRTIO_ID_RNG && kDeviceScsi == VIRTIO_ID_SCSI);

static_assert(status::kAcknowledge == VIRTIO_CONFIG_S_ACKNOWLEDGE && status::kDriver == VIRTIO_CONFIG_S_DRIVER);
static_assert(status::kDriverOk == VIRTIO_CONFIG_S_DRIVER_OK && status::kFeaturesOk == VIRTIO_CONFIG_S_FEATURES_OK);
static_assert(status::kNeedsReset == VIRTIO_CONFIG_S_NEEDS_RESET && status::kFailed == VIRTIO_CONFIG_S_FAILED);

static_assert(feature::kNotifyOnEmpty == VIRTIO_F_NOTIFY_ON_EMPTY && feature::kAnyLayout == VIRTIO_F_ANY_LAYOUT);
static_assert(feature::kIndirectDesc == VIRTIO_RING_F_INDIRECT_DESC && feature::kEventIdx == VIRTIO_RING_F_EVENT_IDX);
static_assert(feature::kVersion1 == VIRTIO_F_VERSION_1 && feature::kAccessPlatform == VIRTIO_F_ACCESS_PLATFORM);
static_assert(feature::kRingPacked == VIRTIO_F_RING_PACKED && feature::kInOrder == VIRTIO_F_IN_ORDER);
static_assert(feature::kOrderPlatform == VIRTIO_F_ORDER_PLATFORM && feature::kSrIov == VIRTIO_F_SR_IOV);
static_assert(feature::kRingReset == VIRTIO_F_RING_RESET);

static_assert(net_feature::kCsum == VIRTIO_NET_F_CSUM && net_feature::kGuestCsum == VIRTIO_NET_F_GUEST_CSUM);
static_assert(net_feature::kCtrlGuestOffloads == VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
static_assert(net_feature::kMtu == VIRTIO_NET_F_MTU && net_feature::kMac == VIRTIO_NET_F_MAC);
static_assert(net_feature::kGso == VIRTIO_NET_F_GSO && net_feature::kGuestTso4 == VIRTIO_NET_F_GUEST_TSO4);
static_assert(net_feature::kGuestTso6 == VIRTIO_NET_F_GUEST_TSO6 && net_feature::kGuestEcn == VIRTIO_NET_F_GUEST_ECN);
static_assert(net_feature::kGuestUfo == VIRTIO_NET_F_GUEST_UFO && net_feature::kHostTso4 == VIRTIO_NET_F_HOST_TSO4);
static_assert(net_feature::kHostTso6 == VIRTIO_NET_F_HOST_TSO6 && net_feature::kHostEcn == VIRTIO_NET_F_HOST_ECN);
static_assert(net_feature::kHostUfo == VIRTIO_NET_F_HOST_UFO && net_feature::kMrgRxbuf == VIRTIO_NET_F_MRG_RXBUF);
static_assert(net_feature::kStatus == VIRTIO_NET_F_STATUS && net_feature::kCtrlVq == VIRTIO_NET_F_CTRL_VQ);
static_assert(net_feature::kCtrlRx == VIRTIO_NET_F_CTRL_RX && net_feature::kCtrlVlan == VIRTIO_NET_F_CTRL_VLAN);
static_assert(net_feature::kCtrlRxExtra == VIRTIO_NET_F_CTRL_RX_EXTRA);
static_assert(net_feature::kGuestAnnounce == VIRTIO_NET_F_GUEST_ANNOUNCE && net_feature::kMq == VIRTIO_NET_F_MQ);
static_assert(net_feature::kCtrlMacAddr == VIRTIO_NET_F_CTRL_MAC_ADDR &&
              net_feature::kNotfCoal == VIRTIO_NET_F_NOTF_COAL);
static_assert(net_feature::kHashReport == VIRTIO_NET_F_HASH_REPORT && net_feature::kRss == VIRTIO_NET_F_RSS);
static_assert(net_feature::kRscExt == VIRTIO_NET_F_RSC_EXT && net_feature::kStandby == VIRTIO_NET_F_STANDBY);
static_assert(net_feature::kSpeedDuplex == VIRTIO_NET_F_SPEED_DUPLEX);
static_assert(feature_bit(kDeviceNet, "MRG_RXBUF") == net_feature::kMrgRxbuf &&
              !feature_bit(kDeviceBlock, "MRG_RXBUF"));
static_assert(feature_name(kDeviceNet, feature::kVersion1) == "VERSION_1" && feature_name(kDeviceNet, 50).empty());

static_assert(blk_feature::kBarrier == VIRTIO_BLK_F_BARRIER && blk_feature::kSizeMax == VIRTIO_BLK_F_SIZE_MAX);
static_assert(blk_feature::kSegMax == VIRTIO_BLK_F_SEG_MAX && blk_feature::kGeometry == VIRTIO_BLK_F_GEOMETRY);
static_assert(blk_feature::kRo == VIRTIO_BLK_F_RO && blk_feature::kBlkSize == VIRTIO_BLK_F_BLK_SIZE);
static_assert(blk_feature::kScsi == VIRTIO_BLK_F_SCSI && blk_feature::kFlush == VIRTIO_BLK_F_FLUSH);
static_assert(blk_feature::kTopology == VIRTIO_BLK_F_TOPOLOGY && blk_feature::kConfigWce == VIRTIO_BLK_F_CONFIG_WCE);
static_assert(blk_feature::kMq == VIRTIO_BLK_F_MQ && blk_feature::kDiscard == VIRTIO_BLK_F_DISCARD);
static_assert(blk_feature::kWriteZeroes == VIRTIO_BLK_F_WRITE_ZEROES &&
              blk_feature::kSecureErase == VIRTIO_BLK_F_SECURE_ERASE);
static_assert(feature_bit(kDeviceBlock, "FLUSH") == blk_feature::kFlush && !feature_bit(kDeviceNet, "FLUSH"));

static_assert(pci::kNoVector == VIRTIO_MSI_NO_VECTOR && pci::kIsrConfig == VIRTIO_PCI_ISR_CONFIG);
static_assert(pci::cap::kId == offsetof(virtio_pci_cap, cap_vndr) &&
              pci::cap::kNext == offsetof(virtio_pci_cap, cap_next));
static_assert(pci::cap::kLength == offsetof(virtio_pci_cap, cap_len));
static_assert(pci::cap::kType == offsetof(virtio_pci_cap, cfg_type) && pci::cap::kBar == offsetof(virtio_pci_cap, bar));
static_assert(pci::cap::kStructId == offsetof(virtio_pci_cap, id) &&
              pci::cap::kOffset == offsetof(virtio_pci_cap, offset));
static_assert(pci::cap::kStructLength == offsetof(virtio_pci_cap, length) && pci::cap::kSize == sizeof(virtio_pci_cap));
static_assert(pci::cap::kNotifyMultiplier == offsetof(virtio_pci_notify_cap, notify_off_multiplier));
static_assert(pci::cap::kNotifySize == sizeof(virtio_pci_notify_cap));
static_assert(pci::cap::kPciData == offsetof(virtio_pci_cfg_cap, pci_cfg_data));
static_assert(pci::cap::kPciSize == sizeof(virtio_pci_cfg_cap));
static_assert(static_cast<int>(pci::CapType::kCommon) == VIRTIO_PCI_CAP_COMMON_CFG);
static_assert(static_cast<int>(pci::CapType::kNotify) == VIRTIO_PCI_CAP_NOTIFY_CFG);
static_assert(static_cast<int>(pci::CapType::kIsr) == VIRTIO_PCI_CAP_ISR_CFG);
static_assert(static_cast<int>(pci::CapType::kDevice) == VIRTIO_PCI_CAP_DEVICE_CFG);
static_assert(static_cast<int>(pci::CapType::kPci) == VIRTIO_PCI_CAP_PCI_CFG);
static_assert(static_cast<int>(pci::CapType::kSharedMemory) == VIRTIO_PCI_CAP_SHARED_MEMORY_CFG);

static_assert(pci::Common::DeviceFeatureSelect::offset == VIRTIO_PCI_COMMON_DFSELECT);
static_assert(pci::Common::DeviceFeature::offset == VIRTIO_PCI_COMMON_DF);
static_assert(pci::Common::DriverFeatureSelect::offset == VIRTIO_PCI_COMMON_GFSELECT);
static_assert(pci::Common::DriverFeature::offset == VIRTIO_PCI_COMMON_GF);
static_assert(pci::Common::ConfigMsixVector::offset == VIRTIO_PCI_COMMON_MSIX);
static_assert(pci::Common::NumQueues::offset == VIRTIO_PCI_COMMON_NUMQ);
static_assert(pci::Common::DeviceStatus::offset == VIRTIO_PCI_COMMON_STATUS);
static_assert(pci::Common::ConfigGeneration::offset == VIRTIO_PCI_COMMON_CFGGENERATION);
static_assert(pci::Common::QueueSelect::offset == VIRTIO_PCI_COMMON_Q_SELECT);
static_assert(pci::Common::QueueSize::offset == VIRTIO_PCI_COMMON_Q_SIZE);
static_assert(pci::Common::QueueMsixVector::offset == VIRTIO_PCI_COMMON_Q_MSIX);
static_assert(pci::Common::QueueEnable::offset == VIRTIO_PCI_COMMON_Q_ENABLE);
static_assert(pci::Common::QueueNotifyOff::offset == VIRTIO_PCI_COMMON_Q_NOFF);
static_assert(pci::Common::QueueDescLow::offset == VIRTIO_PCI_COMMON_Q_DESCLO);
static_assert(pci::Common::QueueDescHigh::offset == VIRTIO_PCI_COMMON_Q_DESCHI);
static_assert(pci::Common::QueueDriverLow::offset == VIRTIO_PCI_COMMON_Q_AVAILLO);
static_assert(pci::Common::QueueDriverHigh::offset == VIRTIO_PCI_COMMON_Q_AVAILHI);
static_assert(pci::Common::QueueDeviceLow::offset == VIRTIO_PCI_COMMON_Q_USEDLO);
static_assert(pci::Common::QueueDeviceHigh::offset == VIRTIO_PCI_COMMON_Q_USEDHI);
static_assert(pci::kCommonSize == sizeof(virtio_pci_common_cfg));
static_assert(pci::Common::QueueNotifyData::offset == VIRTIO_PCI_COMMON_Q_NDATA);
static_assert(pci::Common::QueueReset::offset == VIRTIO_PCI_COMMON_Q_RESET);

static_assert(pci::Legacy::DeviceFeatures::offset == VIRTIO_PCI_HOST_FEATURES);
static_assert(pci::Legacy::DriverFeatures::offset == VIRTIO_PCI_GUEST_FEATURES);
static_assert(pci::Legacy::QueueAddress::offset == VIRTIO_PCI_QUEUE_PFN);
static_assert(pci::Legacy::QueueSize::offset == VIRTIO_PCI_QUEUE_NUM);
static_assert(pci::Legacy::QueueSelect::offset == VIRTIO_PCI_QUEUE_SEL);
static_assert(pci::Legacy::QueueNotify::offset == VIRTIO_PCI_QUEUE_NOTIFY);
static_assert(pci::Legacy::DeviceStatus::offset == VIRTIO_PCI_STATUS &&
              pci::Legacy::IsrStatus::offset == VIRTIO_PCI_ISR);
static_assert(pci::Legacy::ConfigMsixVector::offset == VIRTIO_MSI_CONFIG_VECTOR);
static_assert(pci::Legacy::QueueMsixVector::offset == VIRTIO_MSI_QUEUE_VECTOR);
static_assert(pci::kLegacyConfigOffset == VIRTIO_PCI_CONFIG_OFF(0));
static_assert(pci::kLegacyConfigOffsetMsix == VIRTIO_PCI_CONFIG_OFF(1));
static_assert(pci::kLegacyAddressShift == VIRTIO_PCI_QUEUE_ADDR_SHIFT && ring::kLegacyAlign == VIRTIO_PCI_VRING_ALIGN);

static_assert(sizeof(ring::Descriptor) == sizeof(vring_desc) &&
              offsetof(ring::Descriptor, addr) == offsetof(vring_desc, addr));
static_assert(offsetof(ring::Descriptor, len) == offsetof(vring_desc, len));
static_assert(offsetof(ring::Descriptor, flags) == offsetof(vring_desc, flags));
static_assert(offsetof(ring::Descriptor, next) == offsetof(vring_desc, next));
static_assert(sizeof(ring::UsedElement) == sizeof(vring_used_elem));
static_assert(offsetof(ring::UsedElement, len) == offsetof(vring_used_elem, len));
static_assert(ring::kDescNext == VRING_DESC_F_NEXT && ring::kDescWrite == VRING_DESC_F_WRITE);
static_assert(ring::kDescIndirect == VRING_DESC_F_INDIRECT);
static_assert(ring::kAvailNoInterrupt == VRING_AVAIL_F_NO_INTERRUPT && ring::kUsedNoNotify == VRING_USED_F_NO_NOTIFY);
static_assert(ring::kIndexOffset == offsetof(vring_avail, idx) && ring::kIndexOffset == offsetof(vring_used, idx));
static_assert(ring::kRingOffset == offsetof(vring_avail, ring) && ring::kRingOffset == offsetof(vring_used, ring));
static_assert(ring::kDescriptorAlign == VRING_DESC_ALIGN_SIZE && ring::kAvailAlign == VRING_AVAIL_ALIGN_SIZE);
static_assert(ring::kUsedAlign == VRING_USED_ALIGN_SIZE);
// 256 descriptors: 4096 bytes of them, 518 of the available ring, and the used ring on the next page.
static_assert(ring::legacy_used_offset(256) == 8192 && ring::legacy_bytes(256) == 12288);

static_assert(net::config::kMac == offsetof(virtio_net_config, mac));
static_assert(net::config::kStatus == offsetof(virtio_net_config, status));
static_assert(net::config::kMaxPairs == offsetof(virtio_net_config, max_virtqueue_pairs));
static_assert(net::config::kMtu == offsetof(virtio_net_config, mtu));
static_assert(net::config::kSpeed == offsetof(virtio_net_config, speed));
static_assert(net::config::kDuplex == offsetof(virtio_net_config, duplex));
static_assert(net::config::kRssMaxKeySize == offsetof(virtio_net_config, rss_max_key_size));
static_assert(net::config::kRssMaxTable == offsetof(virtio_net_config, rss_max_indirection_table_length));
static_assert(net::config::kHashTypes == offsetof(virtio_net_config, supported_hash_types));
static_assert(net::config::kSize == sizeof(virtio_net_config) && net::kMacBytes == ETH_ALEN);
static_assert(net::kLinkUp == VIRTIO_NET_S_LINK_UP && net::kAnnounce == VIRTIO_NET_S_ANNOUNCE);
static_assert(sizeof(net::Header) == sizeof(virtio_net_hdr_v1) && net::kHeaderBytes == sizeof(virtio_net_hdr_v1));
static_assert(net::kLegacyHeaderBytes == sizeof(virtio_net_hdr));
static_assert(offsetof(net::Header, hdr_len) == offsetof(virtio_net_hdr_v1, hdr_len));
static_assert(offsetof(net::Header, csum_start) == offsetof(virtio_net_hdr_v1, csum_start));
static_assert(offsetof(net::Header, num_buffers) == offsetof(virtio_net_hdr_v1, num_buffers));
static_assert(net::kHeaderNeedsCsum == VIRTIO_NET_HDR_F_NEEDS_CSUM &&
              net::kHeaderDataValid == VIRTIO_NET_HDR_F_DATA_VALID);
static_assert(net::kGsoNone == VIRTIO_NET_HDR_GSO_NONE && net::kGsoTcp4 == VIRTIO_NET_HDR_GSO_TCPV4);
static_assert(net::kGsoUdp == VIRTIO_NET_HDR_GSO_UDP && net::kGsoTcp6 == VIRTIO_NET_HDR_GSO_TCPV6);
static_assert(net::kGsoEcn == VIRTIO_NET_HDR_GSO_ECN);

static_assert(blk::config::kCapacity == offsetof(virtio_blk_config, capacity));
static_assert(blk::config::kSizeMax == offsetof(virtio_blk_config, size_max));
static_assert(blk::config::kSegMax == offsetof(virtio_blk_config, seg_max));
static_assert(blk::config::kCylinders == offsetof(virtio_blk_config, geometry.cylinders));
static_assert(blk::config::kHeads == offsetof(virtio_blk_config, geometry.heads));
static_assert(blk::config::kSectors == offsetof(virtio_blk_config, geometry.sectors));
static_assert(blk::config::kBlockSize == offsetof(virtio_blk_config, blk_size));
static_assert(blk::config::kPhysicalBlockExp == offsetof(virtio_blk_config, physical_block_exp));
static_assert(blk::config::kAlignmentOffset == offsetof(virtio_blk_config, alignment_offset));
static_assert(blk::config::kMinIoSize == offsetof(virtio_blk_config, min_io_size));
static_assert(blk::config::kOptIoSize == offsetof(virtio_blk_config, opt_io_size));
static_assert(blk::config::kWriteback == offsetof(virtio_blk_config, wce));
static_assert(blk::config::kNumQueues == offsetof(virtio_blk_config, num_queues));
static_assert(blk::config::kMaxDiscardSectors == offsetof(virtio_blk_config, max_discard_sectors));
static_assert(blk::config::kMaxDiscardSeg == offsetof(virtio_blk_config, max_discard_seg));
static_assert(blk::config::kDiscardAlignment == offsetof(virtio_blk_config, discard_sector_alignment));
static_assert(blk::config::kMaxWriteZeroes == offsetof(virtio_blk_config, max_write_zeroes_sectors));
static_assert(blk::config::kMaxWriteZeroesSeg == offsetof(virtio_blk_config, max_write_zeroes_seg));
static_assert(blk::config::kWriteZeroesMayUnmap == offsetof(virtio_blk_config, write_zeroes_may_unmap));
static_assert(blk::kTypeIn == VIRTIO_BLK_T_IN && blk::kTypeOut == VIRTIO_BLK_T_OUT);
static_assert(blk::kTypeFlush == VIRTIO_BLK_T_FLUSH && blk::kTypeGetId == VIRTIO_BLK_T_GET_ID);
static_assert(blk::kTypeDiscard == VIRTIO_BLK_T_DISCARD && blk::kTypeWriteZeroes == VIRTIO_BLK_T_WRITE_ZEROES);
static_assert(sizeof(blk::Header) == sizeof(virtio_blk_outhdr) &&
              offsetof(blk::Header, sector) == offsetof(virtio_blk_outhdr, sector));
static_assert(sizeof(blk::Range) == sizeof(virtio_blk_discard_write_zeroes) &&
              offsetof(blk::Range, num_sectors) == offsetof(virtio_blk_discard_write_zeroes, num_sectors) &&
              offsetof(blk::Range, flags) == offsetof(virtio_blk_discard_write_zeroes, flags));
static_assert(blk::kRangeUnmap == VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP && blk::kIdBytes == VIRTIO_BLK_ID_BYTES);
static_assert(blk::kStatusOk == VIRTIO_BLK_S_OK && blk::kStatusIoError == VIRTIO_BLK_S_IOERR);
static_assert(blk::kStatusUnsupported == VIRTIO_BLK_S_UNSUPP);

}  // namespace upci::inline UPCI_VARIANT::virtio::spec
