// SPDX-License-Identifier: Apache-2.0
// Interrupts of a QEMU device as eventfds: the device's MSI-X or MSI messages are aimed at the doorbell (doorbell.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/event_fd.h"
#include "base/platform.h"
#include "base/unique_fd.h"
#include "device/control.h"
#include "emulation/qemu/doorbell.h"
#include "emulation/qemu/fabric.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

/// QEMU itself signals the caller's eventfds, once for each message that the device sends.
///
/// MSI-X: as many vectors as the device's table has, at most kMaxVectors. MSI: one vector. Neither: count() is 0 (polled_line.h
/// carries INTx then).
class Interrupts final : public device::IrqSource {
 public:
  static constexpr unsigned kMaxVectors = 64;

  /// `access` guards fabric and qtest, and is taken by the calls of IrqSource. Reads the device's capabilities, unless none are
  /// wanted.
  Interrupts(platform::Mutex& access, Qtest& qtest, Fabric& fabric, Doorbell doorbell, bool wanted);

  unsigned count() const override { return count_; }
  /// Errors: kInvalid (more than count()), kUnavailable (no numbers left for another routing), kTimeout, kSystem,
  /// kVerdict gone (QEMU has ended).
  Result<void> enable(std::span<const int> eventfds) override;
  Result<void> disable() override;
  Result<void> set_mask(unsigned vector, bool masked) override;
  /// Errors: always kUnavailable.
  Result<void> set_affinity(unsigned vector, int os_cpu) override;

  /// Writes the routing to the device again, after a reset has cleared it. The caller holds `access`.
  void restore();

 private:
  enum class Kind : std::uint8_t { kNone, kMsi, kMsix };
  struct Vector {
    std::uint32_t message = 0;  // what the device writes to the doorbell
    bool masked = false;
    UniqueFd eventfd = {};  // kMsi: ours for as long as it is routed, to pass on what came while it was masked
  };

  // All of these are called with `access_` held.
  void find_msix(std::uint16_t capability);
  Result<void> route(std::span<const int> eventfds, Deadline deadline);
  Result<void> confirm(std::uint32_t message, Deadline deadline);
  void program();
  void program_msix();
  void program_msi();
  void switch_off();
  void forget();
  void set_msix_mask(unsigned vector, bool masked);
  std::uint32_t msi_message() const noexcept;

  platform::Mutex& access_;
  Qtest& qtest_;       // access_
  Fabric& fabric_;     // access_
  Doorbell doorbell_;  // access_

  Kind kind_ = Kind::kNone;  // these are const after construction
  unsigned count_ = 0;
  std::uint16_t capability_ = 0;
  unsigned table_bar_ = 0;  // kMsix
  std::uint64_t table_offset_ = 0;
  bool msi_wide_ = false;  // kMsi: 64-bit addresses, which moves the registers behind them

  std::vector<Vector> vectors_;        // access_; empty when nothing is routed
  std::optional<std::uint16_t> peer_;  // access_; kMsix: the peer of this routing
  std::optional<EventFd> probe_;  // access_; ours: rung to see that QEMU knows a routing; kMsi: takes masked messages
  std::uint16_t next_msi_vector_ = 0;  // access_; of peer 0
  std::uint32_t parking_message_ = 0;  // access_; kMsi: rings probe_
};

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
