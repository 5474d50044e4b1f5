// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/backend.h"

#include <fmt/format.h>
#include <linux/pci_regs.h>

#include <mutex>

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

using Slot = Fabric::Slot;

constexpr std::uint16_t kConfigSize = 4096;
/// Between two looks at a device that is not ready yet.
constexpr platform::Nanoseconds kPause = std::chrono::microseconds(500);
/// A killed process has ended within milliseconds; longer is not waited for.
constexpr platform::Nanoseconds kEndLimit = std::chrono::seconds(2);

constexpr bool valid_width(unsigned width, unsigned widest) noexcept {
  return width != 0 && width <= widest && (width & (width - 1)) == 0;
}

constexpr bool valid_config_access(std::uint16_t offset, unsigned width) noexcept {
  return valid_width(width, 4) && offset % width == 0 && offset < kConfigSize;
}

bool inside(const BarPlace& place, std::uint64_t offset, unsigned width) noexcept {
  return valid_width(width, 8) && offset <= place.size && width <= place.size - offset;
}

std::unexpected<Error> gone(const std::string& name) {
  return fail_verdict(Verdict::kGone, {}, {}, fmt::format("{}: QEMU has ended", name), "open the device again");
}

}  // namespace

Result<std::shared_ptr<Backend>> Backend::create(std::string name, int node, std::unique_ptr<Machine> machine,
                                                 std::unique_ptr<Reflector> reflector, Carried carried) {
  std::shared_ptr<Backend> backend(new Backend(std::move(name), node, std::move(machine), std::move(reflector)));
  {
    const std::scoped_lock lock(backend->access_);
    UPCI_TRY(backend->fabric_.bring_up());
    backend->express_ = backend->fabric_.find_capability(PCI_CAP_ID_EXP);
    if (backend->express_ != 0) {
      const auto at = static_cast<std::uint16_t>(backend->express_ + PCI_EXP_DEVCAP);
      backend->function_reset_ = (backend->fabric_.config_read(Slot::kDevice, at, 4) & PCI_EXP_DEVCAP_FLR) != 0;
    }
  }
  backend->interrupts_ = std::make_unique<Interrupts>(backend->access_, backend->machine_->qtest(), backend->fabric_,
                                                      backend->machine_->take_doorbell(), carried.any);
  if (!carried.any) return backend;
  if (!carried.messages || backend->interrupts_->count() == 0) {
    backend->line_ = PolledLine::find(backend->access_, backend->machine_->qtest(), backend->fabric_);
  }
  return backend;
}

std::uint32_t Backend::config_read(std::uint16_t offset, unsigned width) {
  if (!valid_config_access(offset, width)) return ~std::uint32_t{0};
  const std::scoped_lock lock(access_);
  const std::uint32_t value = fabric_.config_read(Slot::kDevice, offset, width);
  end_if_silent();
  return value;
}

void Backend::config_write(std::uint16_t offset, unsigned width, std::uint32_t value) {
  if (!valid_config_access(offset, width)) return;
  const std::scoped_lock lock(access_);
  if (offset == PCI_COMMAND) bus_master_ = (value & PCI_COMMAND_MASTER) != 0;
  note_write();
  fabric_.config_write(Slot::kDevice, offset, width, value);
  end_if_silent();
}

pci::BarInfo Backend::bar(unsigned bar) {
  if (bar >= Fabric::kBars) return {};
  return {.size = fabric_.bar(bar).size, .io = fabric_.bar(bar).io, .mapping = nullptr};
}

std::uint64_t Backend::bar_read(unsigned bar, std::uint64_t offset, unsigned width) {
  if (bar >= Fabric::kBars || !inside(fabric_.bar(bar), offset, width)) return ~std::uint64_t{0};
  const std::scoped_lock lock(access_);
  const std::uint64_t value = fabric_.bar_read(bar, offset, width);
  end_if_silent();
  return value;
}

void Backend::bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (bar >= Fabric::kBars || !inside(fabric_.bar(bar), offset, width)) return;
  const std::scoped_lock lock(access_);
  note_write();
  fabric_.bar_write(bar, offset, width, value);
  end_if_silent();
}

void Backend::note_write() noexcept {
  if (bus_master_) untouched_since_reset_ = false;
}

/// A QEMU that did not answer in time is declared gone, so it has to go: nothing may write to the guest's RAM any more.
void Backend::end_if_silent() noexcept {
  if (!machine_->qtest().alive()) machine_->kill();
}

bool Backend::present() {
  const std::scoped_lock lock(access_);
  const bool answers = (fabric_.config_read(Slot::kDevice, PCI_VENDOR_ID, 2) & 0xffff) != 0xffff;
  end_if_silent();
  return answers;
}

Result<void> Backend::set_bus_master(bool on) {
  const std::scoped_lock lock(access_);
  std::uint32_t command = fabric_.config_read(Slot::kDevice, PCI_COMMAND, 2);
  command = on ? command | PCI_COMMAND_MASTER : command & ~std::uint32_t{PCI_COMMAND_MASTER};
  bus_master_ = bus_master_ || on;
  fabric_.config_write(Slot::kDevice, PCI_COMMAND, 2, command);
  // What counts is what the device made of it.
  const std::uint32_t now = fabric_.config_read(Slot::kDevice, PCI_COMMAND, 2);
  end_if_silent();
  if (!machine_->qtest().alive()) {
    if (on) return gone(name_);
    return {};  // a device that does not exist masters no bus
  }
  if (((now & PCI_COMMAND_MASTER) != 0) != on) {
    return fail(Errc::kDevice, fmt::format("{}: bus mastering cannot be switched {}", name_, on ? "on" : "off"));
  }
  bus_master_ = on;
  return {};
}

bool Backend::transactions_pending() {
  if (express_ == 0) return false;  // conventional PCI has no transactions that outlive a reset
  const auto status = static_cast<std::uint16_t>(express_ + PCI_EXP_DEVSTA);
  return (fabric_.config_read(Slot::kDevice, status, 2) & PCI_EXP_DEVSTA_TRPND) != 0;
}

/// Until the device answers and has no transaction on its way.
Result<void> Backend::await_idle(Deadline deadline) {
  for (;;) {
    const bool answers = fabric_.config_read(Slot::kDevice, PCI_VENDOR_ID, 2) != 0xffff;
    end_if_silent();
    if (!machine_->qtest().alive()) return gone(name_);
    if (answers && !transactions_pending()) return {};
    if (deadline.expired()) {
      return fail(Errc::kTimeout,
                  fmt::format("{}: the device {} by the deadline", name_,
                              answers ? "still had transactions pending" : "did not come back from its reset"));
    }
    platform::this_thread::sleep_until(std::min(platform::Clock::now() + kPause, deadline.when()));
  }
}

/// PCI Express Base Specification, "Function Level Reset": pending transactions are waited for first, and what was set
/// up in config space is gone afterwards.
Result<void> Backend::reset(Deadline deadline) {
  const std::scoped_lock lock(access_);
  UPCI_TRY(await_idle(deadline));
  const std::uint32_t command = fabric_.config_read(Slot::kDevice, PCI_COMMAND, 2);
  const auto control_at = static_cast<std::uint16_t>(express_ + PCI_EXP_DEVCTL);
  const std::uint32_t control = express_ != 0 ? fabric_.config_read(Slot::kDevice, control_at, 2) : 0;
  const std::uint32_t line = fabric_.config_read(Slot::kDevice, PCI_INTERRUPT_LINE, 1);

  if (function_reset_) {
    fabric_.config_write(Slot::kDevice, control_at, 2, control | PCI_EXP_DEVCTL_BCR_FLR);
  } else {
    fabric_.reset_bus();
  }
  UPCI_TRY(await_idle(deadline));

  fabric_.restore_bars();
  if (express_ != 0) fabric_.config_write(Slot::kDevice, control_at, 2, control);
  fabric_.config_write(Slot::kDevice, PCI_INTERRUPT_LINE, 1, line);
  fabric_.config_write(Slot::kDevice, PCI_COMMAND, 2, command);
  interrupts_->restore();
  const std::uint32_t now = fabric_.config_read(Slot::kDevice, PCI_COMMAND, 2);
  end_if_silent();
  if (!machine_->qtest().alive()) return gone(name_);
  bus_master_ = (now & PCI_COMMAND_MASTER) != 0;
  untouched_since_reset_ = true;
  return {};
}

bool Backend::proven_quiet() {
  if (machine_->qtest().alive()) {
    const std::scoped_lock lock(access_);
    const std::uint32_t command = fabric_.config_read(Slot::kDevice, PCI_COMMAND, 2);
    const bool pending = transactions_pending();
    end_if_silent();
    if (machine_->qtest().alive()) { return (command & PCI_COMMAND_MASTER) == 0 && untouched_since_reset_ && !pending; }
  }
  machine_->kill();
  return machine_->ended(kEndLimit);
}

void Backend::abandon() noexcept { machine_->kill(); }

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
