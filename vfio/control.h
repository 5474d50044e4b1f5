// SPDX-License-Identifier: Apache-2.0
// Private. Whether a function is there, how it is silenced, and what proves that it is silent.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/platform.h"
#include "device/control.h"
#include "vfio/device_file.h"
#include "vfio/dma_space.h"
#include "vfio/faults.h"
#include "vfio/group.h"
#include "vfio/irqs.h"
#include "vfio/notices.h"
#include "vfio/regions.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Thread-safe. Takes no lock around an access of the device: one that hangs must not keep the others from silencing it.
class Control final : public device::DeviceControl {
 public:
  Control(DeviceFile& file, Regions& regions, Irqs& irqs, Notices& notices, Faults& faults, DmaSpace& dma,
          Groups::Member& member, std::shared_ptr<const StandIns> stand_ins, bool has_reset) noexcept
      : file_(file),
        regions_(regions),
        irqs_(irqs),
        notices_(notices),
        faults_(faults),
        dma_(dma),
        member_(member),
        stand_ins_(std::move(stand_ins)),
        has_reset_(has_reset) {}
  ~Control() override { give_back(); }

  /// False once a notice has come, and after give_back().
  bool present() override;
  /// Errors: kDevice (the bit does not follow), kSystem, kUnavailable; kState (switching on what was given back).
  Result<void> set_bus_master(bool on) override;
  /// VFIO_DEVICE_RESET: a function-level reset where the function has one (PCI Express or AF), otherwise what the kernel
  /// finds: through power management, or of a bus that holds nothing else. The kernel restores the config space afterwards.
  /// The call itself cannot be bounded: the kernel waits some hundred milliseconds, for a device that does not come back up
  /// to a minute. So the deadline only says when not to begin any more. Errors: kUnavailable (it has none, or it was given
  /// back), kTimeout, kSystem.
  Result<void> reset(Deadline deadline) override;
  /// Bus mastering off, a reset since it was last on, no transaction pending. For a function that has no reset, after reset()
  /// has found that out: bus mastering off and its memory taken away in the IOMMU, which this call does (DmaSpace::withdraw_all).
  bool proven_quiet() override;
  void abandon() noexcept override { abandoned_.store(true); }
  int notice_fd() const noexcept override { return notices_.fd(); }
  Notice notice() noexcept override { return notices_.get(); }
  /// What the kernel's log says that the IOMMU has refused this function (vfio/faults.h).
  Evidence evidence() override { return faults_.read(); }
  void give_back() noexcept override;

  /// Reads and writes of drivers go here: none reaches a device that was given up.
  bool abandoned() const noexcept { return abandoned_.load(std::memory_order_acquire) || file_.surrendered(); }
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value);

 private:
  bool transactions_pending();

  DeviceFile& file_;
  Regions& regions_;
  Irqs& irqs_;
  Notices& notices_;
  Faults& faults_;
  DmaSpace& dma_;
  Groups::Member& member_;
  const std::shared_ptr<const StandIns> stand_ins_;
  platform::Atomic<bool> abandoned_{false};
  const bool has_reset_;                              // VFIO says that the function can be reset
  platform::Atomic<bool> no_reset_{false};            // one was asked for, and there is none
  platform::Atomic<bool> reset_since_master_{false};  // cleared before bus mastering is switched on
  platform::Atomic<unsigned> writing_{0};             // drivers' config writes under way
  platform::Mutex giving_;
  bool given_back_ = false;  // giving_
};

}  // namespace upci::inline UPCI_VARIANT::vfio
