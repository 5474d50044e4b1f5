// SPDX-License-Identifier: Apache-2.0
// INTx of a QEMU device: a thread of the interrupt's CPU looks whether the device asserts its line.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/event_fd.h"
#include "base/platform.h"
#include "base/unique_fd.h"
#include "device/control.h"
#include "emulation/qemu/fabric.h"
#include "workqueue/percpu_thread.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

/// A machine without firmware and CPUs has nobody who takes a line interrupt, but the device says in its Status register
/// whether it asserts one ("Interrupt Status", PCI Local Bus Specification 3.0, section 6.2.3). What a host's interrupt
/// controller would do by wire, a PerCpuThread does by polling: the kernel's `irqpoll`, with the mask of a level-triggered line.
class PolledLine final : public device::IrqSource {
 public:
  /// The pauses between two looks: the first after an interrupt, the other when none has come for a while.
  static constexpr platform::Nanoseconds kShortestPause = std::chrono::microseconds(100);
  static constexpr platform::Nanoseconds kLongestPause = std::chrono::milliseconds(2);

  /// nullptr for a device without an interrupt pin. `access` guards fabric and qtest.
  static std::unique_ptr<PolledLine> find(platform::Mutex& access, Qtest& qtest, Fabric& fabric);
  ~PolledLine() override;

  unsigned count() const override { return 1; }
  Kind kind() const override { return Kind::kLine; }
  /// Starts the thread. Errors: kInvalid (not exactly one eventfd), kSystem.
  Result<void> enable(std::span<const int> eventfds) override;
  /// Ends the thread; returns when it has ended.
  Result<void> disable() override;
  /// Errors: kInvalid (not vector 0), kState (not enabled).
  Result<void> set_mask(unsigned vector, bool masked) override;
  /// Moves the thread. Errors: kInvalid (not vector 0), kUnavailable (no such CPU here), kSystem.
  Result<void> set_affinity(unsigned vector, int os_cpu) override;

 private:
  PolledLine(platform::Mutex& access, Qtest& qtest, Fabric& fabric) : access_(access), qtest_(qtest), fabric_(fabric) {}
  Result<void> start();
  void look() noexcept;
  bool asserted();

  platform::Mutex& access_;
  Qtest& qtest_;    // access_
  Fabric& fabric_;  // access_

  platform::Mutex control_;                     // never taken by the thread, which is joined under it
  std::optional<Topology> topology_;            // control_
  int os_cpu_ = -1;                             // control_; -1: any
  int cpu_ = -1;                                // control_: the thread's, as the topology numbers it
  UniqueFd eventfd_;                            // control_; const while the thread is there
  std::unique_ptr<PerCpuThread> thread_;        // control_
  platform::Atomic<bool> masked_{true};         // atomic
  platform::Nanoseconds pause_{kLongestPause};  // the thread's
};

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
