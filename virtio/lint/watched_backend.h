// SPDX-License-Identifier: Apache-2.0
// Private. A backend around another one that shows each access to the observer of the registers.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/platform.h"
#include "pci/backend.h"
#include "virtio/lint/dma_map.h"
#include "virtio/lint/register_lint.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

class WatchedBackend final : public pci::Backend {
 public:
  /// Null when the function is not virtio's, or its capabilities make no sense: then there is nothing to observe.
  static std::shared_ptr<WatchedBackend> wrap(std::shared_ptr<pci::Backend> real);

  const std::shared_ptr<RegisterLint>& registers() const noexcept { return registers_; }
  const std::shared_ptr<DmaMap>& memory() const noexcept { return memory_; }

  const std::string& name() const override { return real_->name(); }
  int node() const override { return real_->node(); }
  std::uint32_t config_read(std::uint16_t offset, unsigned width) override { return real_->config_read(offset, width); }
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) override;
  pci::BarInfo bar(unsigned bar) override;
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width) override;
  void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) override;
  device::DeviceControl& control() override { return real_->control(); }
  device::DmaSpace& dma() override { return *dma_; }
  device::IrqSource& irqs() override { return *irqs_; }

 private:
  /// Where a structure lies.
  struct Place {
    std::uint8_t type = 0;
    unsigned bar = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  struct Capability {
    std::uint16_t offset = 0;
    std::uint16_t bytes = 0;
  };
  struct Layout {
    FunctionFacts facts;
    std::vector<Place> places;
    std::vector<Capability> capabilities;
    std::optional<std::uint16_t> msix;  // offset of that capability
    bool transitional = false;          // may have the legacy interface
  };

  WatchedBackend(std::shared_ptr<pci::Backend> real, Layout layout);
  static std::optional<Layout> look(const std::shared_ptr<pci::Backend>& real);
  const Place* place_of(unsigned bar, std::uint64_t offset) const;
  bool is_legacy(unsigned bar) const;
  /// `offset` within the device's own configuration, where the legacy registers have it at present; nothing when it is one of the
  /// header's registers, or when the function has left.
  struct LegacyPlace {
    bool seen = false;  // false: nobody can say what it was
    bool config = false;
    std::uint64_t offset = 0;
  };
  LegacyPlace legacy_place(std::uint64_t offset);

  const std::shared_ptr<pci::Backend> real_;
  const Layout layout_;
  const std::shared_ptr<DmaMap> memory_;
  const std::shared_ptr<RegisterLint> registers_;
  const std::unique_ptr<device::DmaSpace> dma_;
  /// Whether MSI-X is on, as far as it was looked at since interrupts were switched. Atomic, relaxed: who switches them while another
  /// thread reads the configuration would be in trouble anyway.
  enum class Msix : std::uint8_t { kUnknown, kOff, kOn };
  platform::Atomic<Msix> msix_{Msix::kUnknown};
  const std::unique_ptr<device::IrqSource> irqs_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
