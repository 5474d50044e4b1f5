// SPDX-License-Identifier: Apache-2.0
// The PCI config space of an emulated function: header, BARs, and the capabilities for PCI Express, MSI-X and virtio.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "emulation/emu/interrupts.h"
#include "emulation/emu/options.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// Protected by the device's mutex.
class ConfigSpace {
 public:
  static constexpr unsigned kLegacyBar = 0;
  static constexpr unsigned kMsixBar = 1;
  static constexpr unsigned kModernBar = 4;
  static constexpr std::uint32_t kSize = 4096;

  ConfigSpace(const Options& options, Interrupts& interrupts);

  std::uint32_t read(std::uint16_t offset, unsigned width) const;
  /// Returns true when the write asks for a function-level reset.
  bool write(std::uint16_t offset, unsigned width, std::uint32_t value);

  std::uint32_t bar_size(unsigned bar) const noexcept { return bar < bars_.size() ? bars_[bar].size : 0; }
  bool bar_is_io(unsigned bar) const noexcept { return bar < bars_.size() && bars_[bar].io; }
  /// Whether the function answers accesses to this BAR.
  bool decodes(unsigned bar) const noexcept;
  bool bus_master() const noexcept;
  void set_bus_master(bool on) noexcept;
  bool line_disabled() const noexcept;
  /// Function-level reset: all writable bits as after power-on.
  void reset();
  /// The header's and BARs' writable part, which whoever resets a function saves before and restores afterwards.
  struct Saved {
    std::uint16_t command = 0;
    std::array<std::uint32_t, 6> bars{};
  };
  Saved save() const;
  void restore(const Saved& saved);

  /// The BAR access that a config access to pci_cfg_data stands for. Section "PCI configuration access capability".
  struct Window {
    unsigned bar = 0;
    std::uint32_t offset = 0;
    unsigned width = 0;
  };
  std::optional<Window> window(std::uint16_t offset, unsigned width) const;

 private:
  struct Bar {
    std::uint32_t size = 0;
    bool io = false;
  };
  void put(std::uint16_t offset, unsigned width, std::uint32_t value, std::uint32_t writable = 0);
  std::uint32_t get(std::uint16_t offset, unsigned width) const;
  void build_header(const Options& options);
  void build_bars(const Options& options);
  void build_capabilities(const Options& options);
  std::uint8_t add_capability(std::uint8_t id, std::uint8_t length);
  void add_virtio_capability(std::uint8_t type, std::uint8_t length, std::uint32_t offset, std::uint32_t size);
  void apply_fault(const Options& options);

  Interrupts& interrupts_;
  std::array<Bar, 6> bars_;
  std::array<std::uint8_t, 256> bytes_{};
  std::array<std::uint8_t, 256> writable_{};  // which bits of each byte the driver can change
  std::array<std::uint8_t, 256> power_on_{};
  std::uint8_t next_free_ = 0x40;
  std::uint8_t last_link_ = 0x34;  // where the pointer to the next capability goes
  std::uint8_t express_ = 0;       // capabilities by offset; 0: absent
  std::uint8_t msix_ = 0;
  std::uint8_t common_ = 0;
  std::uint8_t pci_access_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
