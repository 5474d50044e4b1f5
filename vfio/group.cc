// SPDX-License-Identifier: Apache-2.0
#include "vfio/group.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/vfio.h>

#include <cerrno>
#include <mutex>
#include <vector>

#include "base/log.h"
#include "vfio/failure.h"

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// Drivers that the kernel itself lets stay in a group that VFIO uses (vfio_main.c, and driver_managed_dma).
bool harmless(const std::string& driver) {
  return driver.ends_with("vfio-pci") || driver == "pci-stub" || driver == "pcieport" || driver == "vfio_pci";
}

/// Names the functions of the group that other drivers hold, and what to do about each.
std::unexpected<Error> not_viable(Kernel& kernel, const std::string& on, const std::string& number) {
  const std::string what = on + ": VFIO_GROUP_GET_STATUS says that the group is not viable";
  const auto functions = kernel.list(fmt::format("/sys/kernel/iommu_groups/{}/devices", number));
  std::vector<std::string> held;
  std::vector<std::string> to_bind;
  std::string bridges;
  for (const std::string& function : functions ? *functions : std::vector<std::string>{}) {
    const auto link = kernel.read_link(fmt::format("/sys/bus/pci/devices/{}/driver", function));
    if (!link) continue;  // bound to nothing: that does no harm
    const std::string driver = base_name(*link);
    if (harmless(driver)) continue;
    held.push_back(fmt::format("{} is bound to {}", function, driver));
    if (driver == "shpchp") {
      bridges +=
          fmt::format("; let the bridge's hotplug driver go (echo {} > /sys/bus/pci/drivers/shpchp/unbind)", function);
    } else {
      to_bind.push_back(function);
    }
  }
  if (held.empty()) {
    return fail(Errc::kUnavailable, what,
                "some function of the group is bound to a driver of its own: see /sys/kernel/iommu_groups/" + number +
                    "/devices, and bind them all (upci bind)");
  }
  std::string advice =
      to_bind.empty() ? bridges.substr(2) : fmt::format("upci bind {}{}", fmt::join(to_bind, " "), bridges);
  return fail(Errc::kUnavailable, fmt::format("{}: {}", what, fmt::join(held, ", ")), std::move(advice));
}

std::string advice_for_open(int error, const std::string& path, const std::string& address) {
  switch (-error) {
    case ENOENT:
    case ENODEV:
    case ENXIO: return fmt::format("the function is not bound to vfio-pci: upci bind {}", address);
    case EACCES:
    case EPERM: return fmt::format("run as root, or give this user the group (chown USER {})", path);
    case EBUSY:
      return fmt::format("another program has a function of this group open (fuser -v {} tells which): end it first",
                         path);
    default: return {};
  }
}

}  // namespace

Result<std::unique_ptr<Group>> Group::open(const std::shared_ptr<Kernel>& kernel, const std::string& number,
                                           const std::string& address) {
  UPCI_TRY_ASSIGN(std::shared_ptr<Container> container, Container::create(kernel));
  const std::string path = "/dev/vfio/" + number;
  const std::string on = fmt::format("IOMMU group {} of {}", number, address);
  const int opened = kernel->open(path, O_RDWR);
  if (opened < 0) return refused(fmt::format("open({})", path), on, opened, advice_for_open(opened, path, address));
  std::unique_ptr<Group> group(new Group(kernel, KernelFd(kernel, opened), container, number));

  vfio_group_status status{.argsz = sizeof(status), .flags = 0};
  if (const int result = kernel->ioctl(opened, VFIO_GROUP_GET_STATUS, argument_of(&status)); result < 0) {
    return refused("VFIO_GROUP_GET_STATUS", on, result);
  }
  if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) return not_viable(*kernel, on, number);
  int container_fd = container->fd();
  if (const int result = kernel->ioctl(opened, VFIO_GROUP_SET_CONTAINER, argument_of(&container_fd)); result < 0) {
    return refused("VFIO_GROUP_SET_CONTAINER", on, result);
  }
  group->joined_ = true;
  UPCI_TRY(container->set_iommu(on));
  return group;
}

Group::~Group() {
  if (joined_) {
    const int result = kernel_->ioctl(fd_.get(), VFIO_GROUP_UNSET_CONTAINER, 0);
    if (result >= 0) {
      container_->detached();
    } else {
      // Closing does the same, but later when somebody still holds a file of it. So nothing is taken for unmapped.
      log::warn("IOMMU group {}: VFIO_GROUP_UNSET_CONTAINER failed with errno {}", number_, -result);
    }
  }
  fd_.reset();
}

Result<Groups::Member> Groups::join(const std::string& number, const std::string& address) {
  const std::scoped_lock lock(mutex_);
  auto entry = entries_.find(number);
  if (entry == entries_.end()) {
    UPCI_TRY_ASSIGN(std::unique_ptr<Group> group, Group::open(kernel_, number, address));
    entry = entries_.emplace(number, Entry{.group = std::move(group), .members = 0}).first;
  }
  ++entry->second.members;
  return Member(shared_from_this(), number, *entry->second.group);
}

void Groups::leave(const std::string& number) noexcept {
  const std::scoped_lock lock(mutex_);
  const auto entry = entries_.find(number);
  if (entry != entries_.end() && --entry->second.members == 0) entries_.erase(entry);
}

unsigned Groups::members(const std::string& number) const noexcept {
  const std::scoped_lock lock(mutex_);
  const auto entry = entries_.find(number);
  return entry == entries_.end() ? 0 : entry->second.members;
}

Result<std::shared_ptr<const StandIns>> Groups::stand_ins() {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<const StandIns> shared = stand_ins_.lock();
  if (!shared) {
    UPCI_TRY_ASSIGN(shared, StandIns::create(kernel_));
    stand_ins_ = shared;
  }
  return shared;
}

bool Groups::Member::alone() const noexcept { return groups_ != nullptr && groups_->members(number_) == 1; }

void Groups::Member::leave() noexcept {
  if (!groups_) return;
  groups_->leave(number_);
  groups_.reset();
}

}  // namespace upci::inline UPCI_VARIANT::vfio
