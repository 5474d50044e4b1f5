// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_net/feature_table.h"

#include <cstdint>
#include <initializer_list>

#include "virtio/spec/features.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::virtio_net {
namespace {

namespace feature = virtio::spec::feature;
namespace net = virtio::spec::net_feature;
using virtio::spec::mask_of;

constexpr std::uint64_t masks(std::initializer_list<unsigned> bits) {
  std::uint64_t mask = 0;
  for (const unsigned bit : bits) mask |= mask_of(bit);
  return mask;
}

// Section "Network Device / Feature bits / Feature bit requirements". CTRL_GUEST_OFFLOADS, CTRL_RX_EXTRA: what they add is a
// command.
constexpr virtio::FeatureDependency kDependencies[] = {
    {net::kGuestTso4, mask_of(net::kGuestCsum)},
    {net::kGuestTso6, mask_of(net::kGuestCsum)},
    {net::kGuestEcn, masks({net::kGuestTso4, net::kGuestTso6})},
    {net::kGuestUfo, mask_of(net::kGuestCsum)},
    {net::kGuestUso4, mask_of(net::kGuestCsum)},
    {net::kGuestUso6, mask_of(net::kGuestCsum)},
    {net::kHostTso4, mask_of(net::kCsum)},
    {net::kHostTso6, mask_of(net::kCsum)},
    {net::kHostEcn, masks({net::kHostTso4, net::kHostTso6})},
    {net::kHostUfo, mask_of(net::kCsum)},
    {net::kHostUso, mask_of(net::kCsum)},
    {net::kCtrlRx, mask_of(net::kCtrlVq)},
    {net::kCtrlRxExtra, mask_of(net::kCtrlVq)},
    {net::kCtrlVlan, mask_of(net::kCtrlVq)},
    {net::kCtrlGuestOffloads, mask_of(net::kCtrlVq)},
    {net::kGuestAnnounce, mask_of(net::kCtrlVq)},
    {net::kMq, mask_of(net::kCtrlVq)},
    {net::kRss, mask_of(net::kCtrlVq)},
    {net::kHashReport, mask_of(net::kCtrlVq)},
    {net::kCtrlMacAddr, mask_of(net::kCtrlVq)},
};

}  // namespace

virtio::FeatureTable feature_table(bool legacy) {
  std::uint64_t wanted =
      masks({net::kMac,           net::kStatus,  net::kMtu,         net::kSpeedDuplex,      net::kMrgRxbuf,
             net::kCtrlVq,        net::kCtrlRx,  net::kCtrlRxExtra, net::kCtrlVlan,         net::kCtrlMacAddr,
             net::kGuestAnnounce, net::kMq,      net::kCsum,        net::kHostTso4,         net::kHostTso6,
             net::kHostEcn,       net::kHostUfo, net::kHostUso,     feature::kIndirectDesc, feature::kEventIdx});
  // Modern devices take any layout without being asked.
  wanted |= legacy ? mask_of(feature::kAnyLayout)
                   : masks({feature::kRingPacked, feature::kInOrder, feature::kRingReset, net::kRss, net::kHashReport});
  return {.wanted = wanted,
          .required = 0,
          .on_request = virtio::spec::net::kReceiveOffloads | mask_of(net::kCtrlGuestOffloads),
          .dependencies = kDependencies};
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
