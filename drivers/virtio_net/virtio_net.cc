// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_net/virtio_net.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "drivers/virtio_net/feature_table.h"
#include "drivers/virtio_net/nic_impl.h"
#include "virtio/queue.h"
#include "virtio/ring_memory.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::virtio_net {
namespace {

namespace net = virtio::spec::net;
namespace net_feature = virtio::spec::net_feature;

constexpr std::uint16_t kQueueSize = 256;
// In each direction, of all pairs together; but not fewer than so many for each.
constexpr std::size_t kDescriptorsOfAll = 8192;
constexpr std::size_t kSmallestOfMany = 64;
// Packets beyond what both rings can hold: the application's.
constexpr std::size_t kApplicationPackets = 1024;
constexpr std::uint16_t kControlSize = 16;
constexpr std::uint16_t kUsualMtu = 1500;
constexpr std::size_t kReserve = 64;                       // packets: enough for the longest frame
constexpr std::size_t kShortTable = virtio::kTableLength;  // for a buffer with its header, or a command
constexpr std::uint32_t kVlanTag = 4;

/// A locally administered address, for a card without one of its own. Section "Device Initialization" (network): "if
/// VIRTIO_NET_F_MAC ... is not negotiated, the driver SHOULD generate a random local MAC address".
Nic::Mac random_mac() {
  Nic::Mac mac{};
  // Six bytes never come short; where there is no entropy the address is 02:00:00:00:00:00.
  if (::getrandom(mac.data(), mac.size(), GRND_NONBLOCK) < 0) mac = {};
  mac[0] = static_cast<std::uint8_t>((mac[0] & 0xfcU) | 0x02U);
  return mac;
}

/// One little-endian number of the card's configuration.
template <class T>
Result<T> read_number(const virtio::Device& device, std::uint32_t offset, Deadline deadline) {
  T value{};
  UPCI_TRY(device.transport().read_config(offset, std::as_writable_bytes(std::span(&value, 1)), deadline));
  return value;
}

std::unexpected<Error> bad_config(std::string what, std::string advice) {
  return std::unexpected(Error{.code = Errc::kDevice,
                               .what = std::move(what),
                               .advice = std::move(advice),
                               .step = "config",
                               .reg = "device_config"});
}

/// What RSS and HASH_REPORT can do, and what the device must be able to: section "Device configuration layout".
Result<void> read_steering(const virtio::Device& device, CardInfo& info, Deadline deadline) {
  const bool rss = device.has(net_feature::kRss);
  if (!rss && !device.has(net_feature::kHashReport)) return {};
  SteeringLimits& limits = info.steering;
  UPCI_TRY_ASSIGN(limits.key_bytes, read_number<std::uint8_t>(device, net::config::kRssMaxKeySize, deadline));
  UPCI_TRY_ASSIGN(limits.hash_types, read_number<std::uint32_t>(device, net::config::kHashTypes, deadline));
  if (rss) {
    UPCI_TRY_ASSIGN(limits.table_entries, read_number<std::uint16_t>(device, net::config::kRssMaxTable, deadline));
  }
  if (limits.key_bytes >= net::kMinRssKey && (!rss || limits.table_entries >= net::kMinRssTable)) return {};
  return bad_config(fmt::format("the network card takes hash keys of {} bytes and indirection tables of {} entries",
                                limits.key_bytes, limits.table_entries),
                    "it must take 40 and 128: decline them with features=-RSS:-HASH_REPORT, or repair the device");
}

Result<CardInfo> read_card(const virtio::Device& device, Deadline deadline) {
  CardInfo info;
  virtio::Transport& transport = device.transport();
  if (device.has(net_feature::kMac)) {
    UPCI_TRY(transport.read_config(net::config::kMac, std::as_writable_bytes(std::span(info.mac)), deadline));
  } else {
    info.mac = random_mac();
  }
  if (device.has(net_feature::kMtu)) {
    UPCI_TRY_ASSIGN(info.mtu, read_number<std::uint16_t>(device, net::config::kMtu, deadline));
    // Section "Device configuration layout": "The device MUST set mtu to between 68 and 65535 inclusive".
    if (info.mtu < net::kMinMtu) {
      return bad_config(fmt::format("the network card gives an MTU of {}", info.mtu),
                        "no MTU may be below 68: decline it with features=-MTU, or repair the device");
    }
  }
  if (device.has(net_feature::kMq) || device.has(net_feature::kRss)) {
    UPCI_TRY_ASSIGN(info.max_pairs, read_number<std::uint16_t>(device, net::config::kMaxPairs, deadline));
    // "The device MUST set max_virtqueue_pairs to between 1 and 0x8000 inclusive".
    if (info.max_pairs == 0 || info.max_pairs > net::kMostPairs) {
      return bad_config(fmt::format("the network card gives {} queue pairs", info.max_pairs),
                        "there must be 1 to 32768: decline them with features=-MQ, or repair the device");
    }
  }
  UPCI_TRY(read_steering(device, info, deadline));
  if (device.has(net_feature::kSpeedDuplex)) {
    UPCI_TRY_ASSIGN(const auto speed, read_number<std::uint32_t>(device, net::config::kSpeed, deadline));
    UPCI_TRY_ASSIGN(const auto duplex, read_number<std::uint8_t>(device, net::config::kDuplex, deadline));
    // "The driver MUST ... treat any value outside 0 to 0x7fffffff, and of duplex any but 0 and 1, as unknown".
    if (speed <= net::kMostSpeed) info.speed = speed;
    if (duplex <= 1) info.full_duplex = duplex == 1;
  }
  UPCI_TRY_ASSIGN(const std::uint16_t status, read_net_status(device, deadline));
  info.link_up = (status & net::kLinkUp) != 0;
  return info;
}

/// What a receive buffer must hold beside the virtio header. Section "Setting Up Receive Buffers": with MRG_RXBUF anything,
/// without it the longest frame: 64 KiB where the device may merge segments, else what the MTU says.
std::uint32_t buffer_bytes(const virtio::Device& device, const CardInfo& info) {
  if (device.has(net_feature::kMrgRxbuf)) return 0;
  if ((device.features() & net::kReceiveMerges) != 0) return net::kLargestReceive;
  return net::kEthernetHeaderBytes + kVlanTag + std::max<std::uint32_t>(info.mtu, 1500);
}

/// The CPUs for queue pairs: the probing one, the others of the device's node, then those of the other nodes.
std::vector<int> cpus_for_pairs(const device::Device& device) {
  const Topology& topology = device.engine().topology();
  const int here = device.engine().current_worker_cpu();
  std::vector<int> cpus = {here >= 0 ? here : topology.housekeeping_cpus().front()};
  const auto add = [&cpus](const std::vector<int>& more) {
    for (const int cpu : more) {
      if (std::ranges::find(cpus, cpu) == cpus.end()) cpus.push_back(cpu);
    }
  };
  add(topology.housekeeping_cpus_of(device.node()));
  add(topology.housekeeping_cpus());
  return cpus;
}

class NetDriver final : public virtio::Driver {
 public:
  explicit NetDriver(Options options) : options_(std::move(options)) {}

  std::string_view name() const override { return "virtio_net"; }
  std::uint32_t device_id() const override { return virtio::spec::kDeviceNet; }
  virtio::FeatureTable features(bool legacy) const override { return feature_table(legacy); }

  Result<std::unique_ptr<virtio::Bound>> probe(virtio::Device& device, Deadline deadline) override {
    const bool observed = device.device().options().observed;
    if (device.has(virtio::spec::feature::kRingPacked)) {
      return observed ? build<virtio::PackedRing<virtio::PackedObservedAccess>>(device, deadline)
                      : build<virtio::PackedRing<virtio::PackedPlainAccess>>(device, deadline);
    }
    return observed ? build<virtio::SplitRing<virtio::ObservedAccess>>(device, deadline)
                    : build<virtio::SplitRing<virtio::PlainAccess>>(device, deadline);
  }

 private:
  /// Null with the plain access policy.
  template <class Ring>
  std::unique_ptr<typename virtio::RingTraits<Ring>::Observer> make_observer(const virtio::Device& device,
                                                                             std::uint16_t queue,
                                                                             std::uint16_t size) const {
    using Traits = virtio::RingTraits<Ring>;
    if constexpr (!Traits::kObserved) return nullptr;
    if constexpr (Traits::kPacked) {
      if (options_.make_packed_observer) return options_.make_packed_observer(queue, size);
    } else {
      if (options_.make_observer) return options_.make_observer(queue, size);
    }
    return std::make_unique<typename Traits::Lint>(size, virtio::ring_options(device));
  }

  template <class Ring>
  Result<std::unique_ptr<virtio::Bound>> build(virtio::Device& device, Deadline deadline) const;

  const Options options_;
};

// Section "Network Device / Device Initialization".
template <class Ring>
Result<std::unique_ptr<virtio::Bound>> NetDriver::build(virtio::Device& device, Deadline deadline) const {
  using Impl = NicImpl<Ring>;
  UPCI_TRY_ASSIGN(CardInfo info, read_card(device, deadline));
  const std::vector<int> cpus = cpus_for_pairs(device.device());
  const auto pairs = static_cast<std::uint16_t>(
      std::min<std::size_t>(info.max_pairs, options_.queue_pairs != 0 ? options_.queue_pairs : cpus.size()));

  info.long_frames = info.mtu > kUsualMtu || (device.features() & (net::kSegmentation | net::kReceiveMerges)) != 0;
  if (info.long_frames) info.receive_reserve = pairs * kReserve;

  std::vector<std::unique_ptr<virtio::RingWatcher>> watchers;
  const auto make_queue = [&](std::uint16_t index, std::uint16_t most,
                              std::size_t table) -> Result<typename Impl::Queue> {
    UPCI_TRY_ASSIGN(const std::uint16_t size, virtio::choose_queue_size(device, index, most));
    auto observer = make_observer<Ring>(device, index, size);
    UPCI_TRY_ASSIGN(auto part, virtio::make_ring<Ring>(device, size, observer.get(),
                                                       static_cast<std::uint16_t>(std::min<std::size_t>(table, size))));
    if (observer != nullptr) watchers.push_back(std::move(observer));
    return typename Impl::Queue{.index = index, .size = size, .part = std::move(part)};
  };
  // With many pairs the buffers of all rings together would be more than the CPUs' caches hold, and each frame would come from memory.
  const auto entries = static_cast<std::uint16_t>(
      std::clamp<std::size_t>(std::bit_floor(kDescriptorsOfAll / pairs), kSmallestOfMany, kQueueSize));
  // Section "Virtqueues": pair n has 2n and 2n + 1.
  std::vector<typename Impl::Queue> queues;
  std::size_t packets = kApplicationPackets + info.receive_reserve;
  for (std::uint16_t pair = 0; pair < pairs; pair++) {
    for (const unsigned direction : {net::kReceiveQueue, net::kTransmitQueue}) {
      UPCI_TRY_ASSIGN(auto queue, make_queue(static_cast<std::uint16_t>(2 * pair + direction), entries,
                                             direction == net::kTransmitQueue ? Framing::kMostSegments : kShortTable));
      packets += direction == net::kReceiveQueue ? std::min(queue.size, RxQueue<Ring>::kMostSlots) : queue.size;
      queues.push_back(std::move(queue));
    }
  }
  if (device.has(net_feature::kCtrlVq)) {
    UPCI_TRY_ASSIGN(auto queue, make_queue(static_cast<std::uint16_t>(2 * info.max_pairs), kControlSize, kShortTable));
    queues.push_back(std::move(queue));  // the last one
  }
  UPCI_TRY_ASSIGN(PacketPool pool, PacketPool::create(device, packets, buffer_bytes(device, info)));

  const unsigned offered = device.device().irqs().count();
  const VectorPlan plan(offered, pairs);
  std::unique_ptr<device::IrqVectors> vectors;
  if (offered != 0) {
    UPCI_TRY_ASSIGN(vectors, device::IrqVectors::create(device.device(), plan.count(), plan.cpus(cpus)));
  }
  auto nic = std::make_unique<Impl>(device, info, std::move(pool), std::move(watchers), plan, std::move(vectors));
  for (std::uint16_t pair = 0; pair < pairs; pair++) {
    nic->add_pair(std::move(queues[2U * pair]), std::move(queues[2U * pair + 1U]));
  }
  if (device.has(net_feature::kCtrlVq)) {
    UPCI_TRY_ASSIGN(auto buffer, virtio::alloc_buffers(device, ControlQueueImpl<Ring>::kBytes));
    nic->add_control_queue(std::move(queues.back()), std::move(buffer));
  }
  UPCI_TRY(nic->enable_vectors());
  UPCI_TRY(nic->set_up_queues());
  return nic;
}

}  // namespace

std::unique_ptr<virtio::Driver> make_driver(Options options) { return std::make_unique<NetDriver>(std::move(options)); }

}  // namespace upci::inline UPCI_VARIANT::virtio_net
