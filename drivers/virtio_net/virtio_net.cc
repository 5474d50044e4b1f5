// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_net/virtio_net.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <utility>

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
using virtio::spec::mask_of;

constexpr std::uint16_t kQueueSize = 256;
// Packets beyond what both rings can hold: the application's.
constexpr std::size_t kApplicationPackets = 1024;
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

Result<CardInfo> read_card(const virtio::Device& device, Deadline deadline) {
  CardInfo info;
  virtio::Transport& transport = device.transport();
  if (device.has(net_feature::kMac)) {
    UPCI_TRY(transport.read_config(net::config::kMac, std::as_writable_bytes(std::span(info.mac)), deadline));
  } else {
    info.mac = random_mac();
  }
  if (device.has(net_feature::kMtu)) {
    UPCI_TRY(transport.read_config(net::config::kMtu, std::as_writable_bytes(std::span(&info.mtu, 1)), deadline));
    // Section "Device configuration layout": "The device MUST set mtu to between 68 and 65535 inclusive".
    if (info.mtu < net::kMinMtu) {
      return std::unexpected(
          Error{.code = Errc::kDevice,
                .what = fmt::format("the network card gives an MTU of {}", info.mtu),
                .advice = "no MTU may be below 68: decline it with features=-MTU, or repair the device",
                .step = "config",
                .reg = "device_config"});
    }
  }
  UPCI_TRY_ASSIGN(info.link_up, read_link(device, deadline));
  return info;
}

/// The vectors that the driver can use, on the probing CPU: one of the device's node. Null when there is none.
Result<std::unique_ptr<device::IrqVectors>> make_vectors(device::Device& device) {
  const unsigned offered = device.irqs().count();
  if (offered == 0) return std::unique_ptr<device::IrqVectors>();
  return device::IrqVectors::create(device, std::min(offered, 3U));
}

class NetDriver final : public virtio::Driver {
 public:
  explicit NetDriver(Options options) : options_(std::move(options)) {}

  std::string_view name() const override { return "virtio_net"; }
  std::uint32_t device_id() const override { return virtio::spec::kDeviceNet; }

  virtio::FeatureTable features(bool legacy) const override {
    std::uint64_t wanted = mask_of(net_feature::kMac) | mask_of(net_feature::kStatus) | mask_of(net_feature::kMtu);
    // Modern devices take any layout without being asked.
    namespace feature = virtio::spec::feature;
    wanted |= mask_of(feature::kIndirectDesc) | mask_of(feature::kEventIdx);
    wanted |= legacy ? mask_of(feature::kAnyLayout) : mask_of(feature::kRingPacked) | mask_of(feature::kInOrder);
    return {.wanted = wanted, .required = 0};
  }

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
  virtio::Transport& transport = device.transport();
  UPCI_TRY_ASSIGN(const CardInfo info, read_card(device, deadline));
  UPCI_TRY_ASSIGN(const std::uint16_t rx_size, virtio::choose_queue_size(device, net::kReceiveQueue, kQueueSize));
  UPCI_TRY_ASSIGN(const std::uint16_t tx_size, virtio::choose_queue_size(device, net::kTransmitQueue, kQueueSize));

  auto rx_observer = make_observer<Ring>(device, net::kReceiveQueue, rx_size);
  auto tx_observer = make_observer<Ring>(device, net::kTransmitQueue, tx_size);
  UPCI_TRY_ASSIGN(auto rx_part, virtio::make_ring<Ring>(device, rx_size, rx_observer.get()));
  UPCI_TRY_ASSIGN(auto tx_part, virtio::make_ring<Ring>(device, tx_size, tx_observer.get()));
  const virtio::QueueAddresses rx_addresses = rx_part.addresses;
  const virtio::QueueAddresses tx_addresses = tx_part.addresses;
  RingObservers observers{.rx = std::move(rx_observer), .tx = std::move(tx_observer)};

  // Section "Setting Up Receive Buffers": without large receive offloads a buffer holds a frame of 1514 bytes and the
  // header; with MTU negotiated, a frame of that size.
  const std::uint32_t frame = net::kEthernetHeaderBytes + kVlanTag + std::max<std::uint32_t>(info.mtu, 1500);
  const std::size_t packets = std::min(rx_size, RxQueue<Ring>::kMostSlots) + std::size_t{tx_size} + kApplicationPackets;
  UPCI_TRY_ASSIGN(PacketPool pool, PacketPool::create(device, packets, frame));
  UPCI_TRY_ASSIGN(auto vectors, make_vectors(device.device()));
  const bool interrupts = vectors != nullptr;

  auto nic = std::make_unique<Impl>(device, info, std::move(pool), std::move(observers), std::move(vectors),
                                    std::move(rx_part), std::move(tx_part));
  // Before the queues are told their vectors: a legacy device has the vector registers only while MSI-X is enabled.
  if (interrupts) UPCI_TRY(nic->vectors()->enable());
  std::uint16_t rx_vector = virtio::Transport::kNoVector, tx_vector = virtio::Transport::kNoVector;
  if (interrupts && nic->message_vectors()) {
    UPCI_TRY(transport.set_config_vector(Impl::kConfigVector));
    rx_vector = static_cast<std::uint16_t>(nic->rx_vector());
    tx_vector = static_cast<std::uint16_t>(nic->tx_vector());
  }
  UPCI_TRY_ASSIGN(auto rx_notifier, transport.setup_queue(net::kReceiveQueue, rx_size, rx_addresses, rx_vector));
  UPCI_TRY_ASSIGN(auto tx_notifier, transport.setup_queue(net::kTransmitQueue, tx_size, tx_addresses, tx_vector));
  nic->set_notifiers(std::move(rx_notifier), std::move(tx_notifier));
  return nic;
}

}  // namespace

std::unique_ptr<virtio::Driver> make_driver(Options options) { return std::make_unique<NetDriver>(std::move(options)); }

}  // namespace upci::inline UPCI_VARIANT::virtio_net
