// SPDX-License-Identifier: Apache-2.0
// Private. A function's interrupts as eventfds.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/platform.h"
#include "device/control.h"
#include "vfio/device_file.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// VFIO_DEVICE_SET_IRQS with eventfds and the action TRIGGER, for `count` vectors from `start` of one index: eventfds[i], or
/// -1 for none. What ioctl gives.
int route_irqs(const DeviceFile& file, unsigned index, unsigned start, std::span<const int> eventfds);
/// The same without data: the action on `count` vectors from `start`; TRIGGER on 0 vectors switches the index off.
int act_on_irqs(const DeviceFile& file, unsigned index, std::uint32_t action, unsigned start, unsigned count);
/// How many vectors an index has; 0 when the kernel does not know the index. Errors: kSystem, kUnavailable, kDevice.
Result<unsigned> count_irqs(const DeviceFile& file, unsigned index, const std::string& on);

/// MSI-X where the function has it, otherwise MSI, otherwise INTx.
///
/// Masking a message vector: VFIO has no mask for it on most kernels, so its eventfd is taken away and given back; and
/// since a message may have come in between, the eventfd is signalled once then. INTx is masked by the kernel at each
/// signal and unmasked by set_mask(0, false).
class Irqs final : public device::IrqSource {
 public:
  explicit Irqs(DeviceFile& file) noexcept : file_(file) {}

  /// Errors: kSystem, kUnavailable, kDevice.
  Result<void> open();

  unsigned count() const override { return count_; }
  Kind kind() const override { return index_ == kLineIndex ? Kind::kLine : Kind::kMessage; }
  /// Errors: also kUnavailable (the kernel has fewer vectors left), kState (given back).
  Result<void> enable(std::span<const int> eventfds) override;
  Result<void> disable() override;
  Result<void> set_mask(unsigned vector, bool masked) override;
  /// Finds the Linux interrupt by its name in /proc/interrupts and writes its affinity. Errors: kUnavailable (not enabled,
  /// not permitted, not found, or the kernel has chosen another CPU).
  Result<void> set_affinity(unsigned vector, int os_cpu) override;

 private:
  static constexpr unsigned kLineIndex = 0;  // VFIO_PCI_INTX_IRQ_INDEX
  struct Vector {
    int eventfd = -1;  // the caller's, who keeps it open while it is routed
    bool masked = false;
  };
  Result<void> disable_locked();
  std::string linux_name(unsigned vector) const;

  DeviceFile& file_;
  unsigned index_ = ~0U;  // const after open(): VFIO's number of the kind
  unsigned count_ = 0;    // const after open()
  platform::Mutex mutex_;
  std::vector<Vector> vectors_;  // mutex_; empty when nothing is routed
};

/// The number of the Linux interrupt with this name, in the text of /proc/interrupts. A line names all handlers that share
/// the interrupt.
std::optional<unsigned> find_linux_irq(const std::string& interrupts, const std::string& name);

}  // namespace upci::inline UPCI_VARIANT::vfio
