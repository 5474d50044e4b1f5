// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/restore.h"

#include <fmt/format.h>

#include <cerrno>

#include "vfio/bind/users.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {
namespace {

/// Gives a function without a driver to its previous one. By name, since the kernel's own choice can be another.
Result<void> rebind(Sysfs& sysfs, const Record& record) {
  auto bound = bind_to(sysfs, record.address, record.previous_driver);
  if (bound) return {};
  Error& error = bound.error();
  if (error.sys_errno != ENODEV && error.sys_errno != ENOENT) {
    if (error.advice.empty()) error.advice = "'dmesg' shows what the driver's probe said";
    return bound;
  }
  // The driver has gone or does not know the function any more (an id added by hand is lost with its module).
  return probe_drivers(sysfs, record.address);
}

Result<void> check_free(Sysfs& sysfs, const Function& function) {
  UPCI_TRY_ASSIGN(const std::optional<std::string> opener, opener_of(sysfs, function));
  if (!opener) return {};
  return fail(Errc::kUnavailable, fmt::format("{} is in use: {}", function.address.to_string(), *opener),
              "end that process first: until then the kernel does not take the function from vfio-pci");
}

}  // namespace

Result<Restoration> restore(Sysfs& sysfs, const Record& record) {
  const std::string name = record.address.to_string();
  UPCI_TRY_ASSIGN(const std::optional<Function> function, look_at(sysfs, record.address));
  if (!function) return Restoration{.note = "the function is not there any more: nothing to restore"};
  if (function->vendor != record.vendor || function->device != record.device) {
    return Restoration{
        .driver = function->driver,
        .note = fmt::format("another device is there now ({:04x}:{:04x}, not {:04x}:{:04x}): it was left as it is",
                            function->vendor, function->device, record.vendor, record.device)};
  }
  const std::string& previous = record.previous_driver;
  const bool ours = function->driver == kVfioPci && previous != kVfioPci;
  if (!ours && !function->driver.empty() && function->driver != previous) {
    return fail(Errc::kUnavailable,
                fmt::format("{} is bound to {} now, by somebody else; before, it was bound to {}", name,
                            function->driver, previous.empty() ? "no driver" : previous),
                fmt::format("release it (echo {} > {}/unbind), then 'upci unbind {}' goes on", name,
                            driver_path(function->driver), name));
  }
  if (ours) UPCI_TRY(check_free(sysfs, *function));

  UPCI_TRY_ASSIGN(const std::string override, read_override(sysfs, record.address));
  const std::string_view left = function->is_bridge() ? kNoDriver : kVfioPci;
  const bool complete = override == left && (function->is_bridge() ? function->driver.empty() : ours);
  const bool rebound = !previous.empty() && function->driver != previous;
  // A driver_override that names another driver was written when the previous one had the function already: with it, the
  // kernel would not bind that one.
  const bool in_the_way = rebound && !record.previous_override.empty() && record.previous_override != previous;
  const std::string& first = in_the_way ? previous : record.previous_override;
  if (override != first) UPCI_TRY(write_override(sysfs, record.address, first));
  if (ours) UPCI_TRY(unbind_from(sysfs, record.address, function->driver));
  if (rebound) UPCI_TRY(rebind(sysfs, record));
  if (in_the_way) UPCI_TRY(write_override(sysfs, record.address, record.previous_override));

  UPCI_TRY_ASSIGN(const std::string driver, driver_of(sysfs, record.address));
  if (driver != previous) {
    const auto text = [](const std::string& any) { return any.empty() ? std::string("no driver") : any; };
    return fail(
        Errc::kSystem, fmt::format("{} is bound to {} again, not to {}", name, text(driver), text(previous)),
        fmt::format("is the module of {} loaded? 'dmesg' shows what its probe said; then 'upci unbind {}' again",
                    text(previous), name));
  }
  UPCI_TRY_ASSIGN(const std::string now, read_override(sysfs, record.address));
  if (now != record.previous_override) {
    return fail(Errc::kSystem, fmt::format("the driver_override of {} is '{}', not '{}' as it was", name, now,
                                           record.previous_override));
  }
  return Restoration{.driver = driver, .complete = complete};
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
