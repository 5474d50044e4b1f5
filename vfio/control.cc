// SPDX-License-Identifier: Apache-2.0
#include "vfio/control.h"

#include <fmt/format.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

#include "base/log.h"
#include "vfio/failure.h"

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

/// Between two tries to reset a device that the kernel has locked for a moment.
constexpr platform::Nanoseconds kPause = std::chrono::milliseconds(1);
constexpr std::uint32_t kGone = 0xffff;

}  // namespace

bool Control::present() {
  return notices_.get() == Notice::kNone && !file_.surrendered() && regions_.config_read(PCI_VENDOR_ID, 2) != kGone;
}

void Control::config_write(std::uint16_t offset, unsigned width, std::uint32_t value) {
  // Counted before the look at abandoned_, so that whoever has set that sees in the count what still got through.
  writing_.fetch_add(1);
  if (!abandoned_.load() && !file_.surrendered()) {
    const bool command = offset <= PCI_COMMAND && PCI_COMMAND < offset + width;
    if (command && (value >> (8 * (PCI_COMMAND - offset)) & PCI_COMMAND_MASTER) != 0) reset_since_master_.store(false);
    regions_.config_write(offset, width, value);
  }
  writing_.fetch_sub(1);
}

Result<void> Control::set_bus_master(bool on) {
  if (file_.surrendered()) {
    if (!on) return {};  // the kernel has switched it off when the last descriptor was closed
    return fail(Errc::kState, file_.name() + ": the device has been given back", "open it again");
  }
  UPCI_TRY_ASSIGN(const std::uint32_t command, regions_.try_config_read(PCI_COMMAND, 2));
  if (command == kGone) {
    if (!on) return {};  // a device that is not there masters no bus
    return fail_verdict(Verdict::kGone, {}, {}, file_.name() + ": the config space reads all ones",
                        "the device is not on its bus: look at its link, its power, and whether it was removed");
  }
  if (on) reset_since_master_.store(false);
  const std::uint32_t wanted = on ? command | PCI_COMMAND_MASTER : command & ~std::uint32_t{PCI_COMMAND_MASTER};
  UPCI_TRY(regions_.try_config_write(PCI_COMMAND, 2, wanted));
  // What counts is what the device made of it.
  UPCI_TRY_ASSIGN(const std::uint32_t now, regions_.try_config_read(PCI_COMMAND, 2));
  if (now == kGone && !on) return {};
  if (((now & PCI_COMMAND_MASTER) != 0) != on) {
    return fail(Errc::kDevice, fmt::format("{}: bus mastering cannot be switched {}", file_.name(), on ? "on" : "off"),
                "look at `dmesg` and at the slot's power and link");
  }
  return {};
}

Result<void> Control::reset(Deadline deadline) {
  const auto none = [this](int error) {
    no_reset_.store(true);
    auto failed = refused("VFIO_DEVICE_RESET", file_.name() + ": the device has no function reset", error,
                          "unplug it or reset its bus if it does not stop");
    failed.error().code = Errc::kUnavailable;
    return failed;
  };
  if (file_.surrendered()) {
    return fail(Errc::kUnavailable, file_.name() + ": the device has been given back", "open it again");
  }
  if (!has_reset_) return none(ENOTTY);
  for (;;) {
    if (deadline.expired()) {
      return fail(Errc::kTimeout, file_.name() + ": no time was left for VFIO_DEVICE_RESET", "allow more time");
    }
    const int result = file_.ioctl(VFIO_DEVICE_RESET);
    if (result >= 0) break;
    if (result == -ENOTTY || result == -EINVAL) return none(result);
    if (result != -EAGAIN) return refused("VFIO_DEVICE_RESET", file_.name(), result);
    if (notices_.get() == Notice::kWithdrawn) {
      // Who removes it holds it, and waits for us: trying again would not help.
      return fail(Errc::kUnavailable, file_.name() + ": the kernel is removing the device, and resets it no more",
                  "give the device back");
    }
    // The kernel does something else with the device at this moment.
    platform::this_thread::sleep_until(std::min(platform::Clock::now() + kPause, deadline.when()));
  }
  // The kernel has restored the command register: a device that was a bus master is one again.
  const std::uint32_t command = regions_.config_read(PCI_COMMAND, 2);
  reset_since_master_.store((command & PCI_COMMAND_MASTER) == 0);
  return {};
}

bool Control::transactions_pending() {
  const std::uint16_t express = regions_.find_capability(PCI_CAP_ID_EXP);
  if (express == 0) return false;  // conventional PCI has no transactions that outlive a reset
  return (regions_.config_read(std::uint64_t{express} + PCI_EXP_DEVSTA, 2) & PCI_EXP_DEVSTA_TRPND) != 0;
}

bool Control::proven_quiet() {
  // Given back, there is nothing to ask any more; but without a container no translated address leads anywhere.
  if (file_.surrendered()) return member_.container()->is_detached() && dma_.all_translated();
  if (writing_.load() != 0) return false;
  const std::uint32_t command = regions_.config_read(PCI_COMMAND, 2);
  if (command == kGone || (command & PCI_COMMAND_MASTER) != 0) return false;
  if (no_reset_.load()) return member_.alone() && dma_.withdraw_all();
  return reset_since_master_.load() && !transactions_pending();
}

void Control::give_back() noexcept {
  const std::scoped_lock lock(giving_);
  if (given_back_) return;
  given_back_ = true;
  if (auto off = irqs_.disable(); !off) { log::warn("{}; closing the device does it, too", off.error().message()); }
  notices_.close();
  // First the registers, then the descriptor: either alone would keep the kernel's file of the device open.
  regions_.cover(*stand_ins_);
  file_.surrender(stand_ins_->nothing());
  member_.leave();
}

}  // namespace upci::inline UPCI_VARIANT::vfio
