// SPDX-License-Identifier: Apache-2.0
#include "virtio/lint/watched_backend.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "pci/config.h"
#include "virtio/spec/ids.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

namespace vpci = spec::pci;

constexpr std::uint8_t kMsixCapability = 0x11;
constexpr std::uint16_t kMsixControl = 2;
constexpr std::uint16_t kMsixSize = 0x7ff;
constexpr std::uint16_t kMsixEnable = 0x8000;
constexpr std::uint16_t kExtended = 0x100;  // the first extended capability
constexpr std::uint32_t kSrIovCapability = 0x10;
constexpr unsigned kMostExtended = 64;

/// Remembers what is mapped, and where.
class WatchedDma final : public device::DmaSpace {
 public:
  WatchedDma(std::shared_ptr<pci::Backend> real, std::shared_ptr<DmaMap> map) noexcept
      : real_(std::move(real)), map_(std::move(map)) {}

  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override {
    UPCI_TRY_ASSIGN(auto memory, real_->dma().alloc(request));
    return watched(std::move(memory));
  }
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte> memory,
                                                             const device::DmaRequest& request) override {
    UPCI_TRY_ASSIGN(auto registered, real_->dma().register_memory(memory, request));
    return watched(std::move(registered));
  }

 private:
  class Watched final : public device::DmaMemory {
   public:
    Watched(std::unique_ptr<device::DmaMemory> real, std::shared_ptr<DmaMap> map)
        : DmaMemory(real->va(), real->iova(), real->size()), real_(std::move(real)), map_(std::move(map)) {
      map_->add(iova(), va(), size());
    }
    ~Watched() override { map_->remove(iova()); }

   private:
    const std::unique_ptr<device::DmaMemory> real_;
    const std::shared_ptr<DmaMap> map_;
  };
  std::unique_ptr<device::DmaMemory> watched(std::unique_ptr<device::DmaMemory> real) {
    return std::make_unique<Watched>(std::move(real), map_);
  }

  const std::shared_ptr<pci::Backend> real_;
  const std::shared_ptr<DmaMap> map_;
};

/// Tells when interrupts are switched.
class WatchedIrqs final : public device::IrqSource {
 public:
  WatchedIrqs(std::shared_ptr<pci::Backend> real, std::function<void()> switched) noexcept
      : real_(std::move(real)), switched_(std::move(switched)) {}

  unsigned count() const override { return real_->irqs().count(); }
  Kind kind() const override { return real_->irqs().kind(); }
  Result<void> enable(std::span<const int> eventfds) override {
    auto done = real_->irqs().enable(eventfds);
    switched_();
    return done;
  }
  Result<void> disable() override {
    auto done = real_->irqs().disable();
    switched_();
    return done;
  }
  Result<void> set_mask(unsigned vector, bool masked) override { return real_->irqs().set_mask(vector, masked); }
  Result<void> set_affinity(unsigned vector, int os_cpu) override { return real_->irqs().set_affinity(vector, os_cpu); }

 private:
  const std::shared_ptr<pci::Backend> real_;
  const std::function<void()> switched_;
};

bool has_sr_iov(const pci::ConfigSpace& config) {
  std::uint16_t at = kExtended;
  for (unsigned i = 0; i < kMostExtended && at >= kExtended; ++i) {
    const std::uint32_t header = config.read32(at);
    if (header == 0 || header == ~std::uint32_t{0}) return false;
    if ((header & 0xffff) == kSrIovCapability) return true;
    at = static_cast<std::uint16_t>(header >> 20);
  }
  return false;
}

std::uint32_t device_type(const pci::Identity& identity) {
  if (identity.device >= vpci::kFirstModern) return identity.device - std::uint32_t{vpci::kFirstModern};
  switch (identity.device) {
    case vpci::kTransitionalNet: return spec::kDeviceNet;
    case vpci::kTransitionalBlock: return spec::kDeviceBlock;
    case vpci::kTransitionalEntropy: return spec::kDeviceEntropy;
    default: return identity.subsystem_device;
  }
}

}  // namespace

std::optional<WatchedBackend::Layout> WatchedBackend::look(const std::shared_ptr<pci::Backend>& real) {
  const pci::ConfigSpace config(real);
  const auto identity = config.identity();
  if (!identity || identity->vendor != vpci::kVendor || identity->device < vpci::kFirstDevice ||
      identity->device > vpci::kLastDevice) {
    return std::nullopt;
  }
  const auto capabilities = config.capabilities();
  if (!capabilities) return std::nullopt;
  Layout layout;
  layout.transitional = identity->device <= vpci::kLastTransitional;
  layout.facts.device_id = device_type(*identity);
  layout.facts.sr_iov = has_sr_iov(config);
  for (const pci::Capability& one : *capabilities) {
    const auto field = [&one](std::uint8_t offset) { return static_cast<std::uint16_t>(one.offset + offset); };
    if (one.id == kMsixCapability) {
      layout.msix = one.offset;
      layout.facts.msix_vectors = static_cast<std::uint16_t>((config.read16(field(kMsixControl)) & kMsixSize) + 1);
    }
    if (one.id != vpci::kVendorCapability) continue;
    layout.capabilities.push_back({.offset = one.offset, .bytes = config.read8(field(vpci::cap::kLength))});
    const Place place{.type = config.read8(field(vpci::cap::kType)),
                      .bar = config.read8(field(vpci::cap::kBar)),
                      .offset = config.read32(field(vpci::cap::kOffset)),
                      .length = config.read32(field(vpci::cap::kStructLength))};
    const bool again =
        std::ranges::any_of(layout.places, [&](const Place& before) { return before.type == place.type; });
    if (again || place.bar > 5) continue;
    layout.places.push_back(place);
    if (place.type == static_cast<std::uint8_t>(vpci::CapType::kNotify)) {
      layout.facts.notify_multiplier = config.read32(field(vpci::cap::kNotifyMultiplier));
    }
  }
  return layout;
}

std::shared_ptr<WatchedBackend> WatchedBackend::wrap(std::shared_ptr<pci::Backend> real) {
  auto layout = look(real);
  if (!layout) return nullptr;
  return std::shared_ptr<WatchedBackend>(new WatchedBackend(std::move(real), std::move(*layout)));
}

WatchedBackend::WatchedBackend(std::shared_ptr<pci::Backend> real, Layout layout)
    : real_(std::move(real)),
      layout_(std::move(layout)),
      memory_(std::make_shared<DmaMap>()),
      registers_(std::make_shared<RegisterLint>(layout_.facts, memory_)),
      dma_(std::make_unique<WatchedDma>(real_, memory_)),
      irqs_(std::make_unique<WatchedIrqs>(real_, [this] { msix_.store(Msix::kUnknown, std::memory_order_relaxed); })) {}

void WatchedBackend::config_write(std::uint16_t offset, unsigned width, std::uint32_t value) {
  for (const Capability& one : layout_.capabilities) {
    // The first two bytes are the list's.
    if (offset + width > one.offset && offset < one.offset + one.bytes) registers_->capability_write(offset);
  }
  real_->config_write(offset, width, value);
  msix_.store(Msix::kUnknown, std::memory_order_relaxed);
}

pci::BarInfo WatchedBackend::bar(unsigned bar) {
  pci::BarInfo info = real_->bar(bar);
  info.mapping = nullptr;
  return info;
}

bool WatchedBackend::is_legacy(unsigned bar) const {
  return layout_.transitional && bar == vpci::kLegacyBar && real_->bar(bar).io;
}

WatchedBackend::LegacyPlace WatchedBackend::legacy_place(std::uint64_t offset) {
  if (offset < vpci::kLegacyConfigOffset) return {.seen = true, .config = false, .offset = offset};
  Msix msix = layout_.msix ? msix_.load(std::memory_order_relaxed) : Msix::kOff;
  if (msix == Msix::kUnknown) {
    const std::uint32_t control = real_->config_read(static_cast<std::uint16_t>(*layout_.msix + kMsixControl), 2);
    if (control == 0xffff) return {};  // it has left
    msix = (control & kMsixEnable) != 0 ? Msix::kOn : Msix::kOff;
    msix_.store(msix, std::memory_order_relaxed);
  }
  const std::uint64_t begin = msix == Msix::kOn ? vpci::kLegacyConfigOffsetMsix : vpci::kLegacyConfigOffset;
  if (offset < begin) return {.seen = true, .config = false, .offset = offset};
  return {.seen = true, .config = true, .offset = offset - begin};
}

const WatchedBackend::Place* WatchedBackend::place_of(unsigned bar, std::uint64_t offset) const {
  for (const Place& place : layout_.places) {
    if (place.bar == bar && offset >= place.offset && offset - place.offset < place.length) return &place;
  }
  return nullptr;
}

std::uint64_t WatchedBackend::bar_read(unsigned bar, std::uint64_t offset, unsigned width) {
  const std::uint64_t value = real_->bar_read(bar, offset, width);
  if (is_legacy(bar)) {
    const LegacyPlace place = legacy_place(offset);
    if (place.config) {
      registers_->config_read(place.offset, width, value);
    } else if (place.seen) {
      registers_->legacy_read(offset, width, value);
    }
    return value;
  }
  const Place* const place = place_of(bar, offset);
  if (place == nullptr) return value;
  switch (static_cast<vpci::CapType>(place->type)) {
    case vpci::CapType::kCommon: registers_->common_read(offset - place->offset, width, value); break;
    case vpci::CapType::kDevice: registers_->config_read(offset - place->offset, width, value); break;
    default: break;
  }
  return value;
}

void WatchedBackend::bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (is_legacy(bar)) {
    // Whoever begins anew may come after a reset of the whole function.
    if (offset == vpci::Legacy::DeviceStatus::offset && value == 0)
      msix_.store(Msix::kUnknown, std::memory_order_relaxed);
    const LegacyPlace place = legacy_place(offset);
    if (place.config) {
      registers_->config_write(place.offset, width);
    } else if (place.seen) {
      registers_->legacy_write(offset, width, value);
    }
  } else if (const Place* const place = place_of(bar, offset)) {
    switch (static_cast<vpci::CapType>(place->type)) {
      case vpci::CapType::kCommon: registers_->common_write(offset - place->offset, width, value); break;
      case vpci::CapType::kDevice: registers_->config_write(offset - place->offset, width); break;
      case vpci::CapType::kNotify: registers_->notify(offset - place->offset, width, value); break;
      default: break;
    }
  }
  real_->bar_write(bar, offset, width, value);
}

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
