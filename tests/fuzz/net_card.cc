// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/net_card.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "virtio/spec/features.h"
#include "virtio/spec/net.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::fuzz {
namespace {

namespace spec = virtio::spec::pci;
using Common = spec::Common;
using Legacy = spec::Legacy;

// BAR 4 of a modern card.
constexpr std::uint64_t kIsrAt = 0x1000, kConfigAt = 0x2000, kNotifyAt = 0x3000, kBarSize = 0x4000;
constexpr std::uint32_t kMultiplier = 4;
constexpr unsigned kModernBar = 4;
constexpr std::uint8_t kMsixAt = 0x40, kCapsAt = 0x50;
constexpr std::uint8_t kMsix = 0x11;

}  // namespace

void Function::raise(unsigned vector) {
  if (eventfds_.empty()) return;
  const std::uint64_t one = 1;
  while (::write(eventfds_[vector % eventfds_.size()], &one, sizeof(one)) < 0 && errno == EINTR) {}
  platform::fd_signalled();
}

NetCard::NetCard(Input& input, const Kind& kind) : Function(kind.vectors, kind.line), input_(input), kind_(kind) {
  // Wire order is the machine's own (virtio/split_ring.h).
  const auto put = [this](std::size_t at, std::uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) space_[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
  };
  put(0x00, spec::kVendor, 2);
  put(0x02, kind.legacy ? spec::kTransitionalNet : spec::kFirstModern + 1, 2);
  put(0x06, 0x10, 2);
  put(0x08, kind.legacy ? spec::kLegacyRevision : spec::kModernRevision, 1);
  put(0x2c, spec::kVendor, 2);
  put(0x2e, 1, 2);
  put(0x34, kMsixAt, 1);
  put(kMsixAt, kMsix, 1);
  put(kMsixAt + 1, kind.legacy ? 0 : kCapsAt, 1);
  struct Place {
    spec::CapType type;
    std::uint64_t at, bytes;
  };
  constexpr std::array<Place, 4> kPlaces = {{{spec::CapType::kCommon, 0, 0x40},
                                             {spec::CapType::kIsr, kIsrAt, 1},
                                             {spec::CapType::kDevice, kConfigAt, 24},
                                             {spec::CapType::kNotify, kNotifyAt, NetCard::kQueues * kMultiplier}}};
  for (std::size_t i = 0; !kind.legacy && i < kPlaces.size(); ++i) {
    const std::size_t at = kCapsAt + i * spec::cap::kNotifySize;
    put(at, spec::kVendorCapability, 1);
    put(at + spec::cap::kNext, i + 1 < kPlaces.size() ? at + spec::cap::kNotifySize : 0, 1);
    put(at + spec::cap::kLength, spec::cap::kNotifySize, 1);
    put(at + spec::cap::kType, static_cast<std::uint8_t>(kPlaces[i].type), 1);
    put(at + spec::cap::kBar, kModernBar, 1);
    put(at + spec::cap::kOffset, kPlaces[i].at, 4);
    put(at + spec::cap::kStructLength, kPlaces[i].bytes, 4);
    put(at + spec::cap::kNotifyMultiplier, kMultiplier, 4);
  }
  offered_ = input_.number(8);
  if (!kind.legacy) offered_ |= virtio::spec::mask_of(virtio::spec::feature::kVersion1);
  config_ = {2, 0, 0, 0, 0, 1, 1, 0, 2, 0, 0xdc, 5, 0xe8, 3, 0, 0, 1};
  queue_size_ = static_cast<std::uint16_t>(1U << input_.below(9));
  countdown_ = input_.u8();
}

std::uint32_t NetCard::config_read(std::uint16_t offset, unsigned width) {
  if (gone_ || offset + width > space_.size()) return ~std::uint32_t{0} >> (32 - 8 * width);
  std::uint32_t value = 0;
  std::memcpy(&value, space_.data() + offset, width);
  // The backend enables MSI-X when vectors are routed.
  if (offset == kMsixAt + 2 && kind_.vectors != 0 && !kind_.line && routed()) value |= 0x8000;
  return value;
}

pci::BarInfo NetCard::bar(unsigned index) {
  if (kind_.legacy) return {.size = index == spec::kLegacyBar ? 64U : 0U, .io = true, .mapping = nullptr};
  return {.size = index == kModernBar ? kBarSize : 0, .io = false, .mapping = nullptr};
}

std::uint64_t NetCard::interfere(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const auto stuck = stuck_.find(offset);
  if (stuck != stuck_.end()) value = stuck->second;
  if (countdown_ != 0 && --countdown_ == 0 && !input_.empty()) {
    const std::uint8_t kind = input_.u8();
    value = (kind & 2) != 0 ? ~std::uint64_t{0} : input_.number(width);
    if ((kind & 1) != 0) stuck_[offset] = value;
    gone_ = gone_ || (kind & 0xf0) == 0xf0;
    countdown_ = input_.u8();
  }
  return gone_ ? ~std::uint64_t{0} : value;
}

std::uint64_t NetCard::bar_read(unsigned bar, std::uint64_t offset, unsigned width) {
  const pci::BarInfo info = this->bar(bar);
  FUZZ_CHECK(offset % width == 0 && offset <= info.size && width <= info.size - offset, "an access beside its BAR");
  const std::uint64_t value = kind_.legacy                                ? legacy_read(offset, width)
                              : offset >= kConfigAt && offset < kNotifyAt ? device_config(offset - kConfigAt, width)
                                                                          : modern_read(offset);
  return interfere(offset, width, value);
}

void NetCard::bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) {
  const pci::BarInfo info = this->bar(bar);
  FUZZ_CHECK(offset % width == 0 && offset <= info.size && width <= info.size - offset, "an access beside its BAR");
  if (gone_) return;
  if (kind_.legacy) {
    legacy_write(offset, value);
  } else {
    modern_write(offset, value);
  }
}

std::uint64_t NetCard::device_config(std::uint64_t offset, unsigned width) const {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < width; ++i) {
    if (offset + i < config_.size()) value |= std::uint64_t{config_[offset + i]} << (8 * i);
  }
  return value;
}

std::uint64_t NetCard::modern_read(std::uint64_t offset) {
  switch (offset) {
    case Common::DeviceFeature::offset: return feature_select_ < 2 ? offered_ >> (32 * feature_select_) : 0;
    case Common::NumQueues::offset: return kQueues;
    case Common::DeviceStatus::offset: return status_;
    case Common::ConfigMsixVector::offset: return config_vector_;
    case Common::QueueSize::offset: return selected().size;
    case Common::QueueMsixVector::offset: return selected().vector;
    case Common::QueueEnable::offset: return selected().enabled ? 1 : 0;
    case Common::QueueNotifyOff::offset: return select_ % kQueues;
    case kIsrAt: return std::exchange(isr_, std::uint8_t{0});
    default: return 0;
  }
}

void NetCard::modern_write(std::uint64_t offset, std::uint64_t value) {
  if (offset >= kNotifyAt) return serve(queues_[(offset - kNotifyAt) / kMultiplier % kQueues]);
  switch (offset) {
    case Common::DeviceFeatureSelect::offset: feature_select_ = static_cast<std::uint32_t>(value); break;
    case Common::DriverFeatureSelect::offset: driver_select_ = static_cast<std::uint32_t>(value); break;
    case Common::DriverFeature::offset:
      if (driver_select_ < 2) accepted_ |= (value & 0xffff'ffffU) << (32 * driver_select_);
      break;
    case Common::DeviceStatus::offset: set_status(static_cast<std::uint8_t>(value)); break;
    case Common::ConfigMsixVector::offset: config_vector_ = static_cast<std::uint16_t>(value); break;
    case Common::QueueSelect::offset: select_ = static_cast<std::uint16_t>(value); break;
    case Common::QueueSize::offset: selected().size = static_cast<std::uint16_t>(value); break;
    case Common::QueueMsixVector::offset: selected().vector = static_cast<std::uint16_t>(value); break;
    case Common::QueueDescLow::offset: selected().address = value & 0xffff'ffffU; break;
    case Common::QueueDescHigh::offset: selected().address |= value << 32; break;
    case Common::QueueEnable::offset: start(selected()); break;
    default: break;
  }
}

std::uint64_t NetCard::legacy_read(std::uint64_t offset, unsigned width) {
  const std::uint64_t config_at =
      kind_.vectors != 0 && !kind_.line && routed() ? spec::kLegacyConfigOffsetMsix : spec::kLegacyConfigOffset;
  if (offset >= config_at) return device_config(offset - config_at, width);
  switch (offset) {
    case Legacy::DeviceFeatures::offset: return offered_ & 0xffff'ffffU;
    case Legacy::QueueAddress::offset: return selected().address >> spec::kLegacyAddressShift;
    case Legacy::QueueSize::offset: return select_ < kQueues ? selected().size : 0;
    case Legacy::DeviceStatus::offset: return status_;
    case Legacy::IsrStatus::offset: return std::exchange(isr_, std::uint8_t{0});
    case Legacy::ConfigMsixVector::offset: return config_vector_;
    case Legacy::QueueMsixVector::offset: return selected().vector;
    default: return 0;
  }
}

void NetCard::legacy_write(std::uint64_t offset, std::uint64_t value) {
  switch (offset) {
    case Legacy::DriverFeatures::offset: accepted_ = value; break;
    case Legacy::QueueAddress::offset:
      selected().address = value << spec::kLegacyAddressShift;
      start(selected());
      break;
    case Legacy::QueueSelect::offset: select_ = static_cast<std::uint16_t>(value); break;
    case Legacy::QueueNotify::offset: serve(queues_[value % kQueues]); break;
    case Legacy::DeviceStatus::offset: set_status(static_cast<std::uint8_t>(value)); break;
    case Legacy::ConfigMsixVector::offset: config_vector_ = static_cast<std::uint16_t>(value); break;
    case Legacy::QueueMsixVector::offset: selected().vector = static_cast<std::uint16_t>(value); break;
    default: break;
  }
}

void NetCard::set_status(std::uint8_t status) {
  status_ = status;
  if (status != 0) return;
  accepted_ = 0;
  for (Queue& queue : queues_)
    queue = {.size = queue_size_, .address = 0, .vector = 0xffff, .enabled = false, .ring = {}};
}

/// The rings lie where the driver's own layouts put them: in one block.
void NetCard::start(Queue& queue) {
  queue.ring.reset();
  queue.enabled = queue.address != 0;
  if (!queue.enabled || queue.size == 0) return;
  if ((accepted_ & virtio::spec::mask_of(virtio::spec::feature::kRingPacked)) != 0) {
    const auto layout = virtio::PackedLayout::of(queue.size);
    if (std::byte* ring = at(queue.address, layout.bytes))
      queue.ring = std::make_unique<PackedDevice>(ring, queue.size, layout);
  } else {
    const auto layout = virtio::SplitLayout::of(queue.size, kind_.legacy);
    if (std::byte* ring = at(queue.address, layout.bytes))
      queue.ring = std::make_unique<SplitDevice>(ring, queue.size, layout);
  }
}

/// Memory that the driver took back is out of its reach: the IOMMU sees to that.
bool NetCard::alive(Queue& queue) {
  if (queue.ring && at(queue.address, 1) == nullptr) queue.ring.reset();
  return queue.ring != nullptr;
}

/// Where a buffer of the chain lies that was taken last, or nullptr.
std::byte* NetCard::buffer(const Queue& queue, bool last, std::size_t bytes) {
  const RingDevice::Chain& chain = queue.ring->chain();
  std::uint64_t address = last ? chain.last : chain.first;
  if (chain.table_bytes >= sizeof(ring::Descriptor)) {
    const std::byte* const table = at(chain.first, chain.table_bytes);
    if (table == nullptr) return nullptr;
    const std::size_t entry = last ? chain.table_bytes / sizeof(ring::Descriptor) - 1 : 0;
    std::memcpy(&address, table + entry * sizeof(ring::Descriptor), sizeof(address));
  }
  return at(address, bytes);
}

/// The driver has told it of something new: it answers at once, or the fuzzer does in its place.
void NetCard::serve(Queue& queue) {
  const std::uint8_t how = input_.u8();
  if (how >= 0x80) {
    for (unsigned i = 0; i < how % 4U; ++i) act();
    return;
  }
  if (!alive(queue) || how % 2 == 1) return;
  // The receive queues keep their buffers until act(); what is sent and the commands are done with.
  const auto number = static_cast<std::size_t>(&queue - queues_.data());
  const bool many = (accepted_ & virtio::spec::mask_of(virtio::spec::net_feature::kMq)) != 0;
  const bool command = number == (many ? kQueues - 1 : 2);
  const bool receives = number % 2 == 0 && !command;
  while (!receives) {
    const auto id = queue.ring->take();
    if (!id) break;
    if (std::byte* answer = command ? buffer(queue, true, 1) : nullptr) {
      *answer = std::byte{virtio::spec::net::kControlOk};
    }
    queue.ring->use(*id, command ? 1 : 0);
  }
}

void NetCard::act() {
  Queue& queue = queues_[input_.below(kQueues)];
  const unsigned what = input_.below(8);
  if (what == 0) return scribble(input_.u8(), input_.u32(), input_.u8());
  if (what == 1) {
    isr_ = input_.u8();
    return raise(input_.u8());
  }
  if (!alive(queue)) return;
  switch (what) {
    case 2: queue.ring->use(input_.u8(), input_.u32()); break;
    case 3: queue.ring->jump(input_.u16()); break;
    case 4: queue.ring->wish(input_.u16(), input_.u16()); break;
    default: {  // a frame, with a header that may say anything
      const auto id = queue.ring->take();
      if (!id) break;
      const std::uint8_t header = input_.u8() % 16;
      std::byte* const to = buffer(queue, false, header);
      for (unsigned i = 0; to != nullptr && i < header; ++i) to[i] = static_cast<std::byte>(input_.u8());
      queue.ring->use(*id, input_.u16() % 2048U);
    }
  }
}

}  // namespace upci::inline UPCI_VARIANT::fuzz
