// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <string>

#include "vfio/bind/errors.h"
#include "vfio/bind/users.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {
namespace {

using namespace std::chrono_literals;

/// Drivers that do no DMA of their own, so that they can stay in a group that VFIO opens: the kernel's driver_managed_dma.
bool may_stay(const std::string& driver) {
  return driver.empty() || driver == kVfioPci || driver == "pci-stub" || driver == "pcieport";
}

/// A bridge is only ever released, and only from a driver that keeps its group from being viable.
bool to_do(const Function& function) {
  return function.is_bridge() ? !may_stay(function.driver) : function.driver != kVfioPci;
}

Result<Function> check_function(Sysfs& sysfs, const pci::Address& address) {
  UPCI_TRY_ASSIGN(const std::optional<Function> function, look_at(sysfs, address));
  if (!function) {
    return fail(Errc::kUnavailable, fmt::format("there is no PCI function {}", address.to_string()),
                "'upci list' shows those of this machine");
  }
  UPCI_TRY_ASSIGN(const unsigned header, header_type(sysfs, address));
  if (header != 0 && !function->is_bridge()) {
    return fail(Errc::kUnavailable,
                fmt::format("{} is no ordinary PCI function (class {:06x}, header type {})", address.to_string(),
                            function->class_code, header),
                "vfio-pci takes functions with header type 0 only; a bus in reset or without power reads as 127");
  }
  return *function;
}

Result<void> check_driver(Sysfs& sysfs) {
  const std::string path = driver_path(kVfioPci);
  UPCI_TRY_ASSIGN(bool there, in_environment(sysfs.exists(path)));
  if (there) return {};
  UPCI_TRY(in_environment(sysfs.load_module(std::string(kVfioPci), Deadline::after(30s))));
  UPCI_TRY_ASSIGN(there, in_environment(sysfs.exists(path)));
  if (there) return {};
  return fail(Errc::kUnavailable, "the kernel has no driver vfio-pci", "load it: 'modprobe vfio-pci'");
}

/// vfio's parameter enable_unsafe_noiommu_mode, for kernels that have it: then vfio-pci makes a group of its own.
bool lives_without_iommu(Sysfs& sysfs) {
  const auto mode = sysfs.read("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
  return mode && trimmed(*mode) == "Y";
}

/// The members of the group that are neither harmless nor named.
Result<void> check_group(Sysfs& sysfs, const Function& function, const std::set<pci::Address>& named) {
  if (function.group < 0) {
    if (lives_without_iommu(sysfs)) return {};
    return fail(
        Errc::kUnavailable, fmt::format("{} has no IOMMU group", function.address.to_string()),
        "switch the IOMMU on: VT-d or AMD-Vi in the firmware's setup, and intel_iommu=on (Intel) on the kernel's "
        "command line; a machine without one can only be used with vfio's enable_unsafe_noiommu_mode");
  }
  UPCI_TRY_ASSIGN(const std::vector<std::string> members,
                  in_environment(sysfs.list(fmt::format("/sys/kernel/iommu_groups/{}/devices", function.group))));
  std::vector<std::string> blockers;
  std::vector<std::string> names;  // what to name so that nothing is in the way
  for (const std::string& member : members) {
    const auto address = pci::Address::parse(member);
    if (!address) continue;  // not a PCI device: nothing that can be named
    if (named.contains(*address)) {
      names.push_back(member);
      continue;
    }
    UPCI_TRY_ASSIGN(const std::string driver, driver_of(sysfs, *address));
    if (may_stay(driver)) continue;
    blockers.push_back(fmt::format("{} (driver {})", member, driver));
    names.push_back(member);
  }
  if (blockers.empty()) return {};
  return fail(Errc::kUnavailable,
              fmt::format("IOMMU group {} of {} is not viable: it also has {}", function.group,
                          function.address.to_string(), fmt::join(blockers, ", ")),
              fmt::format("name the whole group: 'upci bind {}' (a bridge is only released from its driver)",
                          fmt::join(names, " ")));
}

}  // namespace

Result<std::vector<Checked>> check_all(Sysfs& sysfs, std::span<const pci::Address> addresses) {
  std::vector<Checked> checked;
  std::set<pci::Address> named;
  bool any_to_bind = false;
  bool any = false;
  for (const pci::Address& address : addresses) {
    if (!named.insert(address).second) continue;
    UPCI_TRY_ASSIGN(Function function, check_function(sysfs, address));
    const bool needed = to_do(function);
    any = any || needed;
    any_to_bind = any_to_bind || (needed && !function.is_bridge());
    checked.push_back({.function = std::move(function), .to_do = needed});
  }
  if (!any) return checked;
  if (any_to_bind) UPCI_TRY(check_driver(sysfs));
  UPCI_TRY_ASSIGN(const std::vector<Use> uses, uses_of_devices(sysfs));
  for (const Checked& each : checked) {
    if (!each.to_do) continue;
    const Function& function = each.function;
    if (const Use* use = use_of(uses, function.address); use != nullptr) {
      return fail(Errc::kUnavailable,
                  fmt::format("{} carries {}: this machine needs it", function.address.to_string(), use->what),
                  "choose another device, or unmount, swapoff or reroute first");
    }
    if (!function.is_bridge()) UPCI_TRY(check_group(sysfs, function, named));
  }
  return checked;
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
