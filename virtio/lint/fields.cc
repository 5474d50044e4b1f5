// SPDX-License-Identifier: Apache-2.0
#include "virtio/lint/fields.h"

#include <array>

#include "virtio/spec/blk.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

namespace feature = spec::feature;
namespace net = spec::net_feature;
namespace blk = spec::blk_feature;
using spec::mask_of;

constexpr std::array kCommon = {
    Field{0x00, 4, 1, true}, Field{0x04, 4},          Field{0x08, 4, 1, true}, Field{0x0c, 4, 1, true},
    Field{0x10, 2, 1, true}, Field{0x12, 2},          Field{0x14, 1, 1, true}, Field{0x15, 1},
    Field{0x16, 2, 1, true}, Field{0x18, 2, 1, true}, Field{0x1a, 2, 1, true}, Field{0x1c, 2, 1, true},
    Field{0x1e, 2},          Field{0x20, 8, 1, true}, Field{0x28, 8, 1, true}, Field{0x30, 8, 1, true},
    Field{0x38, 2},          Field{0x3a, 2, 1, true}, Field{0x3c, 2},          Field{0x3e, 2},
};
constexpr std::array kLegacy = {
    Field{0x00, 4},          Field{0x04, 4, 1, true}, Field{0x08, 4, 1, true}, Field{0x0c, 2},
    Field{0x0e, 2, 1, true}, Field{0x10, 2, 1, true}, Field{0x12, 1, 1, true}, Field{0x13, 1},
    Field{0x14, 2, 1, true}, Field{0x16, 2, 1, true},
};

constexpr std::uint64_t kHash = mask_of(net::kRss) | mask_of(net::kHashReport);
constexpr std::array kNet = {
    Field{0, 1, 6, false, mask_of(net::kMac)},
    Field{6, 2, 1, false, mask_of(net::kStatus)},
    Field{8, 2, 1, false, mask_of(net::kMq) | mask_of(net::kRss)},
    Field{10, 2, 1, false, mask_of(net::kMtu)},
    Field{12, 4, 1, false, mask_of(net::kSpeedDuplex)},
    Field{16, 1, 1, false, mask_of(net::kSpeedDuplex)},
    Field{17, 1, 1, false, kHash},
    Field{18, 2, 1, false, mask_of(net::kRss)},
    Field{20, 4, 1, false, kHash},
};

constexpr std::uint64_t kDiscard = mask_of(blk::kDiscard);
constexpr std::uint64_t kZeroes = mask_of(blk::kWriteZeroes);
constexpr std::uint64_t kErase = mask_of(blk::kSecureErase);
constexpr std::array kBlk = {
    Field{0, 8},
    Field{8, 4, 1, false, mask_of(blk::kSizeMax)},
    Field{12, 4, 1, false, mask_of(blk::kSegMax)},
    Field{16, 2, 1, false, mask_of(blk::kGeometry)},
    Field{18, 1, 1, false, mask_of(blk::kGeometry)},
    Field{19, 1, 1, false, mask_of(blk::kGeometry)},
    Field{20, 4, 1, false, mask_of(blk::kBlkSize)},
    Field{24, 1, 1, false, mask_of(blk::kTopology)},
    Field{25, 1, 1, false, mask_of(blk::kTopology)},
    Field{26, 2, 1, false, mask_of(blk::kTopology)},
    Field{28, 4, 1, false, mask_of(blk::kTopology)},
    Field{32, 1, 1, true, mask_of(blk::kConfigWce)},
    Field{34, 2, 1, false, mask_of(blk::kMq)},
    Field{36, 4, 1, false, kDiscard},
    Field{40, 4, 1, false, kDiscard},
    Field{44, 4, 1, false, kDiscard},
    Field{48, 4, 1, false, kZeroes},
    Field{52, 4, 1, false, kZeroes},
    Field{56, 1, 1, false, kZeroes},
    Field{60, 4, 1, false, kErase},
    Field{64, 4, 1, false, kErase},
    Field{68, 4, 1, false, kErase},
};

/// `feature` requires one of `any_of`.
struct Need {
  unsigned feature;
  std::uint64_t any_of;
};
constexpr std::uint64_t kControl = mask_of(net::kCtrlVq);
constexpr std::array kNetNeeds = {
    Need{net::kGuestTso4, mask_of(net::kGuestCsum)},
    Need{net::kGuestTso6, mask_of(net::kGuestCsum)},
    Need{net::kGuestEcn, mask_of(net::kGuestTso4) | mask_of(net::kGuestTso6)},
    Need{net::kGuestUfo, mask_of(net::kGuestCsum)},
    Need{net::kGuestUso4, mask_of(net::kGuestCsum)},
    Need{net::kGuestUso6, mask_of(net::kGuestCsum)},
    Need{net::kHostTso4, mask_of(net::kCsum)},
    Need{net::kHostTso6, mask_of(net::kCsum)},
    Need{net::kHostEcn, mask_of(net::kHostTso4) | mask_of(net::kHostTso6)},
    Need{net::kHostUfo, mask_of(net::kCsum)},
    Need{net::kHostUso, mask_of(net::kCsum)},
    Need{net::kCtrlRx, kControl},
    Need{net::kCtrlVlan, kControl},
    Need{net::kGuestAnnounce, kControl},
    Need{net::kMq, kControl},
    Need{net::kCtrlMacAddr, kControl},
    Need{net::kNotfCoal, kControl},
    Need{net::kRscExt, mask_of(net::kHostTso4) | mask_of(net::kHostTso6)},
    Need{net::kRss, kControl},
    Need{52, kControl},  // VQ_NOTF_COAL
    Need{51, kControl},  // HASH_TUNNEL
    Need{51, kHash},
};

}  // namespace

std::span<const Field> common_fields() noexcept { return kCommon; }
std::span<const Field> legacy_fields() noexcept { return kLegacy; }

std::span<const Field> config_fields(std::uint32_t device_id) noexcept {
  if (device_id == 1) return kNet;
  if (device_id == 2) return kBlk;
  return {};
}

const Field* field_at(std::span<const Field> fields, std::uint64_t offset) noexcept {
  for (const Field& field : fields) {
    if (offset >= field.offset && offset < field.end()) return &field;
  }
  return nullptr;
}

bool proper_access(const Field& field, std::uint64_t offset, unsigned width) noexcept {
  const unsigned unit = field.bytes == 8 ? 4 : field.bytes;
  return width == unit && (offset - field.offset) % unit == 0;
}

std::optional<unsigned> orphan(std::uint32_t device_id, std::uint64_t features) noexcept {
  if (device_id != 1) return std::nullopt;
  for (const Need& need : kNetNeeds) {
    if ((features & mask_of(need.feature)) != 0 && (features & need.any_of) == 0) return need.feature;
  }
  return std::nullopt;
}

std::uint64_t known_features(std::uint32_t device_id, bool legacy, bool sr_iov) noexcept {
  std::uint64_t known = 0;
  for (const spec::FeatureName& name : spec::kCommonFeatureNames) known |= mask_of(name.bit);
  for (const spec::FeatureName& name : spec::device_feature_names(device_id)) known |= mask_of(name.bit);
  if (!sr_iov) known &= ~mask_of(feature::kSrIov);
  if (legacy) return known & 0xffff'ffffU;
  // What only the legacy interface has.
  known &= ~(mask_of(feature::kNotifyOnEmpty) | mask_of(feature::kAnyLayout));
  if (device_id == 1) known &= ~mask_of(net::kGso);
  if (device_id == 2) known &= ~(mask_of(blk::kBarrier) | mask_of(blk::kScsi));
  return known;
}

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
