// SPDX-License-Identifier: Apache-2.0
// The PCI side of the guest machine: where its functions are, and what firmware would have done there.
//
//   00:00.0  q35's host bridge        its PCIEXBAR makes config space reachable in memory (ECAM)
//   00:01.0  a PCI Express root port  leads to bus 1; its bridge windows let memory and port accesses through
//   00:02.0  ivshmem-doorbell         turns interrupt messages into eventfds (doorbell.h)
//   01:00.0  the device under test    alone on its bus, so that a reset of the bus is a reset of the device
#pragma once

#include <array>
#include <cstdint>

#include "base/error.h"
#include "emulation/qemu/qtest.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

struct BarPlace {
  std::uint64_t address = 0;  // in the guest's memory or port space; 0: not implemented
  std::uint64_t size = 0;
  bool io = false;
};

/// One caller at a time (that of the Qtest). The device's answers are checked: they are not ours.
class Fabric {
 public:
  enum class Slot : std::uint32_t { kHostBridge = 0x000, kRootPort = 0x008, kDoorbell = 0x010, kDevice = 0x100 };
  static constexpr unsigned kBars = 6;

  explicit Fabric(Qtest& qtest) noexcept : qtest_(qtest) {}

  /// Does what firmware does: ECAM, bridge, BARs, COMMAND (memory, port and bus master on). Once. Errors: kUnavailable
  /// (QEMU does not answer; the BARs do not fit), kInvalid (a bridge, which is no device to be driven).
  Result<void> bring_up();

  std::uint32_t config_read(Slot slot, std::uint16_t offset, unsigned width) {
    return static_cast<std::uint32_t>(qtest_.read(config_address(slot, offset), width));
  }
  void config_write(Slot slot, std::uint16_t offset, unsigned width, std::uint32_t value) {
    qtest_.write(config_address(slot, offset), width, value);
  }
  /// The offset of the device's first capability with this id; 0 when there is none, or when the list is broken.
  std::uint16_t find_capability(std::uint8_t id);

  const BarPlace& bar(unsigned index) const noexcept { return bars_[index]; }
  std::uint64_t bar_read(unsigned index, std::uint64_t offset, unsigned width);
  void bar_write(unsigned index, std::uint64_t offset, unsigned width, std::uint64_t value);
  std::uint64_t doorbell_address() const noexcept;

  /// Writes the device's BARs again, after a reset has cleared them.
  void restore_bars();
  /// A secondary bus reset at the root port: resets the device whatever capabilities it has. PCI-to-PCI Bridge
  /// Architecture Specification 1.2, section 3.2.5.17.
  void reset_bus();

 private:
  static std::uint64_t config_address(Slot slot, std::uint16_t offset) noexcept;
  void size_bars();
  Result<void> place_bars();
  void open_windows();

  Qtest& qtest_;
  std::array<BarPlace, kBars> bars_ = {};
  std::uint64_t memory_end_ = 0;  // of what place_bars() used
  std::uint64_t io_end_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
