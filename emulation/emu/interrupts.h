// SPDX-License-Identifier: Apache-2.0
// The interrupts of an emulated function: MSI-X vectors with mask and pending bits, or one INTx line, each signalled
// straight to the eventfd that the caller gave.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/platform.h"
#include "base/unique_fd.h"
#include "device/irq.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// Thread-safe. Its lock is taken last.
class Interrupts final : public device::IrqSource {
 public:
  /// `vectors` of MSI-X, or 0 for INTx alone.
  explicit Interrupts(unsigned vectors);

  // The driver's side. The descriptors are duplicated, as the kernel holds its own reference of them.
  unsigned count() const override { return static_cast<unsigned>(vectors_.size()); }
  Kind kind() const override { return msix_ ? Kind::kMessage : Kind::kLine; }
  Result<void> enable(std::span<const int> eventfds) override;
  Result<void> disable() override;
  Result<void> set_mask(unsigned vector, bool masked) override;
  Result<void> set_affinity(unsigned vector, int os_cpu) override;

  // The device's side.
  /// Sends an MSI-X message, or notes it as pending while the vector is masked. Nothing for a vector that is not there.
  void raise(unsigned vector) noexcept;
  /// Asserts the INTx line, until lower_line(); nothing for a device with MSI-X. Each signal masks it, as a host does with
  /// a level-triggered interrupt that it cannot handle at once; unmasked while it is still asserted, it signals again.
  void raise_line() noexcept;
  void lower_line() noexcept;
  bool msix_enabled() const noexcept;
  /// The command register's Interrupt Disable bit.
  void disable_line(bool disabled) noexcept;
  /// Back to the state after power-on, but for the routing.
  void reset() noexcept;

  // MSI-X as config space and BAR show it. PCI Local Bus Specification 3.0, section 6.8.2.
  bool has_msix() const noexcept { return msix_; }
  std::uint16_t message_control() const noexcept;
  void write_message_control(std::uint16_t value) noexcept;
  static constexpr std::uint32_t kPendingOffset = 0x800;  // of the pending bits in the table's BAR
  static constexpr std::uint32_t kTableBarSize = 0x1000;
  std::uint32_t read_table(std::uint64_t offset) const noexcept;
  void write_table(std::uint64_t offset, std::uint32_t value) noexcept;

 private:
  struct Vector {
    UniqueFd fd;
    std::uint32_t message[3] = {};  // address, upper address, data: kept, since the eventfd stands for them
    bool masked = true;
    bool pending = false;
  };
  void deliver(Vector& vector) noexcept;
  void deliver_pending() noexcept;

  const bool msix_;
  mutable platform::Mutex mutex_;
  std::vector<Vector> vectors_;   // mutex_; its size is const
  bool enabled_ = false;          // mutex_; MSI-X Enable, or the line is routed
  bool function_masked_ = false;  // mutex_
  bool line_disabled_ = false;    // mutex_
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
