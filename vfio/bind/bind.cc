// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/bind.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <ranges>

#include "base/log.h"
#include "vfio/bind/checks.h"
#include "vfio/bind/function.h"
#include "vfio/bind/restore.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {
namespace {

Result<void> check_going_on(const Interrupted& interrupted) {
  if (interrupted && interrupted()) return fail(Errc::kState, "interrupted");
  return {};
}

bool is_our_override(std::string_view override) { return override == kVfioPci || override == kNoDriver; }

}  // namespace

struct Binder::Plan {
  Function function;
  Record record;
};

Result<void> Binder::require_root() {
  if (sysfs_.is_root()) return {};
  return fail(Errc::kUnavailable, "only root may bind and unbind drivers", "run it as root, for example with sudo");
}

// What was before is what is now, unless an earlier bind was broken off: then its record knows better, as far as the function
// is still as that bind left it.
Result<Binder::Plan> Binder::plan(const Function& function) {
  UPCI_TRY_ASSIGN(const std::string override, read_override(sysfs_, function.address));
  Plan plan{.function = function,
            .record = {.address = function.address,
                       .vendor = function.vendor,
                       .device = function.device,
                       .previous_driver = function.driver,
                       .previous_override = override,
                       .group = function.group}};
  UPCI_TRY_ASSIGN(const std::optional<Record> earlier, records_.load(function.address));
  if (earlier && earlier->vendor == function.vendor && earlier->device == function.device) {
    if (function.driver.empty()) plan.record.previous_driver = earlier->previous_driver;
    if (is_our_override(override)) plan.record.previous_override = earlier->previous_override;
  }
  for (const std::string& name : {plan.record.previous_driver, plan.record.previous_override}) {
    if (name.empty() || is_driver_name(name)) continue;
    return fail(Errc::kUnavailable,
                fmt::format("{}: its driver or driver_override has a name that cannot be written down and restored",
                            function.address.to_string()),
                "see /sys/bus/pci/devices for it");
  }
  return plan;
}

Result<void> Binder::carry_out(Plan& plan, const Interrupted& interrupted) {
  const pci::Address& address = plan.function.address;
  const bool bridge = plan.function.is_bridge();
  const std::string_view driver = bridge ? kNoDriver : kVfioPci;
  log::info("{}: {} -> {}", address.to_string(), plan.function.driver.empty() ? "no driver" : plan.function.driver,
            driver);
  UPCI_TRY(records_.save(plan.record));
  UPCI_TRY(check_going_on(interrupted));
  UPCI_TRY(write_override(sysfs_, address, driver));
  UPCI_TRY(check_going_on(interrupted));
  if (!plan.function.driver.empty()) UPCI_TRY(unbind_from(sysfs_, address, plan.function.driver));
  UPCI_TRY(check_going_on(interrupted));
  if (!bridge) UPCI_TRY(probe_drivers(sysfs_, address));
  UPCI_TRY_ASSIGN(const std::string now, driver_of(sysfs_, address));
  if (now != (bridge ? std::string_view() : kVfioPci)) {
    return fail(Errc::kSystem,
                fmt::format("{} is bound to {} afterwards, not to {}", address.to_string(),
                            now.empty() ? "no driver" : now, driver),
                "'dmesg' shows why vfio-pci did not take it");
  }
  plan.record.step = Step::kBound;
  UPCI_TRY(records_.save(plan.record));
  return check_going_on(interrupted);
}

/// Restores in reverse order, and says in the error what came of that.
Error Binder::undo(std::span<const Plan> done, Error error) {
  std::vector<std::string> left;
  for (const Plan& plan : done | std::views::reverse) {
    const pci::Address& address = plan.function.address;
    auto restored = [&]() -> Result<void> {
      // What the kernel holds up can still happen: whatever were done now could be undone by it.
      if (error.code == Errc::kTimeout && &plan == &done.back()) return fail(Errc::kTimeout, "the kernel holds it");
      UPCI_TRY(restore(sysfs_, plan.record));
      return records_.remove(address);
    }();
    if (!restored) left.push_back(fmt::format("{} ({})", address.to_string(), restored.error().message()));
  }
  if (done.empty() || left.empty()) {
    error.what += done.empty() ? "; nothing was changed" : "; what was before is restored";
    return error;
  }
  // The errno's text belongs to what failed first.
  error.what = fmt::format("{}; restoring failed for {}", error.message(), fmt::join(left, ", "));
  error.sys_errno = 0;
  if (!error.advice.empty()) error.advice += "; ";
  error.advice += "what was is written down: 'upci unbind' restores it once the cause is gone";
  return error;
}

Result<std::vector<Bound>> Binder::bind(std::span<const pci::Address> addresses, const Interrupted& interrupted) {
  UPCI_TRY(require_root());
  UPCI_TRY_ASSIGN(const auto lock, records_.lock());
  UPCI_TRY_ASSIGN(const std::vector<Checked> checked, check_all(sysfs_, addresses));
  std::vector<Plan> plans;
  std::vector<Bound> bound;
  for (const Checked& each : checked) {
    const Function& function = each.function;
    Bound entry{.address = function.address,
                .driver = function.is_bridge() && each.to_do ? "" : std::string(kVfioPci),
                .group = function.group,
                .node = function.node,
                .changed = each.to_do};
    if (each.to_do) {
      UPCI_TRY_ASSIGN(Plan made, plan(function));
      entry.previous_driver = made.record.previous_driver;
      entry.previous_override = made.record.previous_override;
      plans.push_back(std::move(made));
    } else {
      UPCI_TRY_ASSIGN(const std::optional<Record> record, records_.load(function.address));
      entry.driver = function.driver;
      if (record) {
        entry.previous_driver = record->previous_driver;
        entry.previous_override = record->previous_override;
        entry.note = "upci bound it before";
      } else if (function.is_bridge()) {
        entry.note = "a bridge that is in nobody's way stays as it is";
      } else {
        entry.note = "not bound by upci: 'upci unbind' will not touch it";
      }
    }
    bound.push_back(std::move(entry));
  }
  for (std::size_t i = 0; i < plans.size(); ++i) {
    auto done = check_going_on(interrupted);
    const std::size_t begun = done ? i + 1 : i;
    if (done) done = carry_out(plans[i], interrupted);
    if (!done) return std::unexpected(undo(std::span(plans).first(begun), std::move(done).error()));
  }
  return bound;
}

Restored Binder::give_back(const pci::Address& address) {
  Restored result{.address = address};
  const auto outcome = [&]() -> Result<void> {
    UPCI_TRY_ASSIGN(const std::optional<Record> record, records_.load(address));
    if (!record) {
      UPCI_TRY_ASSIGN(const std::optional<Function> function, look_at(sysfs_, address));
      const std::string name = address.to_string();
      if (!function) {
        return fail(Errc::kUnavailable, fmt::format("there is no PCI function {}, and no record of it", name),
                    "'upci list' shows those of this machine");
      }
      result.driver = function->driver;
      if (function->driver == kVfioPci) {
        return fail(Errc::kUnavailable,
                    fmt::format("{} is bound to vfio-pci, but not by upci: what was before is not known", name),
                    fmt::format("by hand: echo > {0}/driver_override; echo {1} > {0}/driver/unbind; echo {1} > "
                                "/sys/bus/pci/drivers_probe",
                                device_path(address), name));
      }
      return fail(Errc::kUnavailable,
                  fmt::format("upci did not bind {}: {} has no record of it; it is bound to {}", name,
                              records_.folder(), function->driver.empty() ? "no driver" : function->driver),
                  "there is nothing to restore");
    }
    auto restoration = restore(sysfs_, *record);
    if (!restoration) return std::unexpected(std::move(restoration).error());
    result.driver = restoration->driver;
    result.note = restoration->note;
    result.repaired = result.note.empty() && (record->step != Step::kBound || !restoration->complete);
    return records_.remove(address);
  }();
  if (!outcome) {
    result.error = outcome.error();
    if (const auto driver = driver_of(sysfs_, address)) result.driver = *driver;
  }
  return result;
}

Result<std::vector<Restored>> Binder::unbind(std::span<const pci::Address> addresses) {
  UPCI_TRY(require_root());
  UPCI_TRY_ASSIGN(const auto lock, records_.lock());
  std::vector<Restored> restored;
  for (const pci::Address& address : addresses) restored.push_back(give_back(address));
  return restored;
}

Result<std::vector<Restored>> Binder::unbind_all() {
  UPCI_TRY(require_root());
  UPCI_TRY_ASSIGN(const auto lock, records_.lock());
  UPCI_TRY_ASSIGN(const std::vector<pci::Address> addresses, records_.all());
  std::vector<Restored> restored;
  // Bridges after what is behind them would be as well: each is restored by itself.
  for (const pci::Address& address : addresses) restored.push_back(give_back(address));
  return restored;
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
