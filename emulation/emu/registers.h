// SPDX-License-Identifier: Apache-2.0
// The two register layouts of virtio over PCI, from the device's side. Protected by the device's mutex.
#pragma once

#include <cstdint>

#include "emulation/emu/virtio_core.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// The modern layout, all in one memory BAR. Section "Virtio Structure PCI Capabilities".
class ModernRegisters {
 public:
  static constexpr unsigned kBar = 4;
  static constexpr std::uint32_t kCommonOffset = 0x0000;
  static constexpr std::uint32_t kIsrOffset = 0x1000;
  static constexpr std::uint32_t kDeviceOffset = 0x2000;
  static constexpr std::uint32_t kNotifyOffset = 0x3000;
  static constexpr std::uint32_t kNotifyLength = 0x1000;
  static constexpr std::uint32_t kNotifyMultiplier = 4;
  static constexpr std::uint32_t kBarSize = 0x4000;

  explicit ModernRegisters(VirtioCore& core) noexcept : core_(core) {}
  std::uint64_t read(std::uint64_t offset, unsigned width);
  void write(std::uint64_t offset, unsigned width, std::uint64_t value);
  /// The selectors go back to 0.
  void reset() noexcept { device_select_ = driver_select_ = queue_select_ = 0; }

 private:
  std::uint64_t read_common(std::uint64_t offset, unsigned width);
  void write_common(std::uint64_t offset, unsigned width, std::uint64_t value);
  void write_address(std::uint64_t offset, std::uint32_t value);

  VirtioCore& core_;
  std::uint32_t device_select_ = 0;
  std::uint32_t driver_select_ = 0;
  std::uint16_t queue_select_ = 0;
};

/// The legacy layout, in port space. Section "Legacy Interfaces: A Note on PCI Device Layout".
class LegacyRegisters {
 public:
  static constexpr std::uint32_t kBarSize = 0x40;

  LegacyRegisters(VirtioCore& core, const Interrupts& interrupts) noexcept : core_(core), interrupts_(interrupts) {}
  std::uint64_t read(std::uint64_t offset, unsigned width);
  void write(std::uint64_t offset, unsigned width, std::uint64_t value);
  void reset() noexcept { queue_select_ = 0; }

 private:
  /// The device's own configuration begins 4 bytes later while MSI-X is enabled.
  std::uint64_t config_offset() const noexcept;

  VirtioCore& core_;
  const Interrupts& interrupts_;
  std::uint16_t queue_select_ = 0;
};

/// All ones of a register of `width` bytes.
constexpr std::uint64_t all_ones(unsigned width) noexcept {
  return width >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * width)) - 1;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
