// SPDX-License-Identifier: Apache-2.0
// The card's control commands. Section "Network Device / Device Operation / Control Virtqueue". Numbers in commands are
// little-endian, or legacy the machine's own: the same here.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <mutex>
#include <vector>

#include "drivers/virtio_net/nic_base.h"
#include "virtio/negotiate.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::virtio_net {
namespace {

namespace net = virtio::spec::net;
namespace feature = virtio::spec::net_feature;

static_assert(std::endian::native == std::endian::little);

// The tables of a command share a page with the rest of it; QEMU takes 64 addresses before it lets everything through.
constexpr std::size_t kMostAddresses = 512;
constexpr std::uint16_t kMostVlan = 4094;

bool is_multicast(const Nic::Mac& mac) noexcept { return (mac[0] & 1U) != 0; }

/// A table of VIRTIO_NET_CTRL_MAC_TABLE_SET: the count, then the addresses.
std::vector<std::byte> table_of(std::span<const Nic::Mac> addresses) {
  const auto count = static_cast<std::uint32_t>(addresses.size());
  std::vector<std::byte> table(sizeof(count) + addresses.size_bytes());
  std::memcpy(table.data(), &count, sizeof(count));
  if (!addresses.empty()) std::memcpy(table.data() + sizeof(count), addresses.data(), addresses.size_bytes());
  return table;
}

}  // namespace

Result<void> NicBase::command(unsigned needed, std::uint8_t command_class, std::uint8_t command,
                              std::span<const std::span<const std::byte>> pieces, Deadline deadline) {
  if (control_ == nullptr || !device_.has(needed)) {
    const auto missing = device_.has(feature::kCtrlVq) ? needed : feature::kCtrlVq;
    return fail(Errc::kUnavailable,
                name() + ": the network card and its driver have not agreed on " +
                    std::string(virtio::spec::feature_name(virtio::spec::kDeviceNet, missing)),
                "it cannot be asked for that");
  }
  if (stopping()) return fail(Errc::kState, name() + ": the network card is being removed");
  if (auto error = failed()) return std::unexpected(std::move(*error));
  return control_->command(command_class, command, pieces, deadline);
}

Result<void> NicBase::set_receive_mode(ReceiveMode mode, bool on, Deadline deadline) {
  const unsigned needed = mode <= ReceiveMode::kAllMulticast ? feature::kCtrlRx : feature::kCtrlRxExtra;
  const auto number = static_cast<std::uint8_t>(mode);
  if (number >= settings_.modes.size()) return fail(Errc::kInvalid, "there is no such receive mode");
  const std::byte data{static_cast<std::uint8_t>(on)};
  const std::lock_guard lock(settings_mutex_);
  UPCI_TRY(command(needed, net::kControlRx, number, std::span(&data, 1), deadline));
  settings_.modes[number] = on;
  return {};
}

Result<void> NicBase::set_mac(const Mac& mac, Deadline deadline) {
  if (is_multicast(mac)) {
    return fail(Errc::kInvalid, "a network card cannot have a multicast address", "the first byte must be even");
  }
  const std::lock_guard lock(settings_mutex_);
  UPCI_TRY(
      command(feature::kCtrlMacAddr, net::kControlMac, net::kMacAddressSet, std::as_bytes(std::span(mac)), deadline));
  settings_.mac = mac;
  mac_.store(pack_mac(mac), std::memory_order_relaxed);
  return {};
}

Result<void> NicBase::set_mac_filter(std::span<const Mac> unicast, std::span<const Mac> multicast, Deadline deadline) {
  // "The driver MUST follow the VIRTIO_NET_CTRL_MAC_TABLE_SET command by a le32 number, followed by that number of
  // non-multicast MAC addresses, followed by another le32 number, followed by that number of multicast addresses."
  if (std::ranges::any_of(unicast, is_multicast) || !std::ranges::all_of(multicast, is_multicast)) {
    return fail(Errc::kInvalid, "an address is in the wrong list of the filter",
                "multicast addresses have an odd first byte, all others an even one");
  }
  if (unicast.size() + multicast.size() > kMostAddresses) {
    return fail(Errc::kInvalid,
                "a filter of " + std::to_string(unicast.size() + multicast.size()) + " addresses is too long",
                "give it at most " + std::to_string(kMostAddresses) + ", or let all through with set_receive_mode");
  }
  const std::vector<std::byte> first = table_of(unicast);
  const std::vector<std::byte> second = table_of(multicast);
  const std::array<std::span<const std::byte>, 2> tables = {first, second};
  const std::lock_guard lock(settings_mutex_);
  UPCI_TRY(command(feature::kCtrlRx, net::kControlMac, net::kMacTableSet, tables, deadline));
  settings_.unicast.emplace(unicast.begin(), unicast.end());
  settings_.multicast.emplace(multicast.begin(), multicast.end());
  return {};
}

Result<void> NicBase::set_vlan(std::uint16_t vlan, bool accepted, Deadline deadline) {
  if (vlan > kMostVlan) return fail(Errc::kInvalid, "there is no VLAN " + std::to_string(vlan), "they end at 4094");
  const std::lock_guard lock(settings_mutex_);
  UPCI_TRY(command(feature::kCtrlVlan, net::kControlVlan, accepted ? net::kVlanAdd : net::kVlanDelete,
                   std::as_bytes(std::span(&vlan, 1)), deadline));
  if (accepted) {
    settings_.vlans.insert(vlan);
  } else {
    settings_.vlans.erase(vlan);
  }
  return {};
}

Result<void> NicBase::set_receive_offloads(std::uint64_t features, Deadline deadline) {
  // "A driver MUST NOT enable an offload for which the appropriate feature has not been negotiated."
  if (const std::uint64_t useless = features & ~(device_.features() & net::kReceiveOffloads); useless != 0) {
    std::string names;
    for (const std::string& one : virtio::feature_names(virtio::spec::kDeviceNet, useless)) names += " " + one;
    return fail(Errc::kInvalid, "receive offloads that are none, or were not agreed on:" + names,
                "insist on them when the card is probed: features=+NAME");
  }
  const std::lock_guard lock(settings_mutex_);
  UPCI_TRY(command(feature::kCtrlGuestOffloads, net::kControlOffloads, net::kOffloadsSet,
                   std::as_bytes(std::span(&features, 1)), deadline));
  settings_.offloads = features;
  return {};
}

Result<void> NicBase::set_active_pairs(unsigned pairs, Deadline deadline) {
  if (pairs == 0 || pairs > queue_pairs()) {
    return fail(Errc::kInvalid, "a number of queue pairs that cannot be: " + std::to_string(pairs),
                "the driver has set up " + std::to_string(queue_pairs()));
  }
  const auto data = static_cast<std::uint16_t>(pairs);
  const std::lock_guard lock(settings_mutex_);
  UPCI_TRY(command(feature::kMq, net::kControlMq, net::kMqPairsSet, std::as_bytes(std::span(&data, 1)), deadline));
  settings_.active_pairs = pairs;
  return {};
}

Result<void> NicBase::make_settings_again(Deadline deadline) {
  NicSettings settings;
  {
    const std::lock_guard lock(settings_mutex_);
    settings = settings_;
  }
  if (settings.active_pairs) UPCI_TRY(set_active_pairs(*settings.active_pairs, deadline));
  for (std::uint8_t mode = 0; mode < settings.modes.size(); mode++) {
    if (settings.modes[mode]) {
      UPCI_TRY(set_receive_mode(static_cast<ReceiveMode>(mode), *settings.modes[mode], deadline));
    }
  }
  if (settings.mac) UPCI_TRY(set_mac(*settings.mac, deadline));
  if (settings.unicast) UPCI_TRY(set_mac_filter(*settings.unicast, *settings.multicast, deadline));
  for (const std::uint16_t vlan : settings.vlans) UPCI_TRY(set_vlan(vlan, true, deadline));
  if (settings.offloads) UPCI_TRY(set_receive_offloads(*settings.offloads, deadline));
  return {};
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
