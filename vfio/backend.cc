// SPDX-License-Identifier: Apache-2.0
#include "vfio/backend.h"

#include <fmt/format.h>
#include <linux/vfio.h>

#include <cerrno>
#include <charconv>

#include "vfio/failure.h"

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// What sysfs says about the function, before anything of it is opened.
struct Place {
  std::string group;
  int node = -1;
};

Result<Place> find(Kernel& kernel, const std::string& address, const std::string& name) {
  const std::string folder = "/sys/bus/pci/devices/" + address;
  if (const auto present = kernel.read_file(folder + "/vendor"); !present) {
    if (present.error() != ENOENT) return refused(fmt::format("reading {}/vendor", folder), name, present.error());
    return refused(fmt::format("reading {}/vendor", folder), name + ": there is no such PCI function", present.error(),
                   "list the functions of this machine (upci list), and check the address");
  }
  const std::string bind = fmt::format("upci bind {}", address);
  const auto driver = kernel.read_link(folder + "/driver");
  if (!driver) {
    const bool unbound = driver.error() == ENOENT;
    return refused(fmt::format("readlink({}/driver)", folder), unbound ? name + ": it is bound to no driver" : name,
                   driver.error(), unbound ? bind : "");
  }
  // There are drivers of vendors that build on vfio-pci (mlx5-vfio-pci).
  if (const std::string bound = base_name(*driver); !bound.ends_with("vfio-pci")) {
    return fail(Errc::kUnavailable, fmt::format("{}: it is bound to {}, not to vfio-pci", name, bound), bind);
  }
  const auto group = kernel.read_link(folder + "/iommu_group");
  if (!group) {
    return refused(fmt::format("readlink({}/iommu_group)", folder), name + ": it is in no IOMMU group", group.error(),
                   "switch the IOMMU on in the firmware (VT-d, AMD-Vi) and the kernel (intel_iommu=on)");
  }
  Place place{.group = base_name(*group)};
  if (const auto node = kernel.read_file(folder + "/numa_node")) {
    std::from_chars(node->data(), node->data() + node->size(), place.node);
    if (place.node < 0) place.node = -1;
  }
  return place;
}

Result<vfio_device_info> device_info(Kernel& kernel, int fd, const std::string& name) {
  constexpr const char* kCall = "VFIO_DEVICE_GET_INFO";
  vfio_device_info info{};
  info.argsz = sizeof(info);
  if (const int result = kernel.ioctl(fd, VFIO_DEVICE_GET_INFO, argument_of(&info)); result < 0)
    return refused(kCall, name, result);
  if ((info.flags & VFIO_DEVICE_FLAGS_PCI) == 0) return implausible(kCall, name, "it is no PCI function");
  if (info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX) {
    return implausible(kCall, name, fmt::format("{} regions", info.num_regions));
  }
  return info;
}

constexpr std::uint64_t ones(unsigned width) noexcept {
  return width < 8 ? (std::uint64_t{1} << (8 * width)) - 1 : ~std::uint64_t{0};
}

}  // namespace

Backend::Backend(Groups::Member member, KernelFd file, std::string name, std::string address, int node, bool has_reset,
                 std::shared_ptr<const StandIns> stand_ins)
    : node_(node),
      member_(std::move(member)),
      file_(member_.container()->kernel(), file.release(), std::move(name), std::move(address)),
      dma_(member_.container(), member_.pool()),
      regions_(file_),
      irqs_(file_),
      notices_(file_),
      faults_(file_),
      control_(file_, regions_, irqs_, notices_, faults_, dma_, member_, std::move(stand_ins), has_reset) {}

Result<std::shared_ptr<Backend>> Backend::open(const std::shared_ptr<Groups>& groups, const pci::Address& address,
                                               std::string name) {
  const std::shared_ptr<Kernel>& kernel = groups->kernel();
  const std::string function = address.to_string();
  UPCI_TRY_ASSIGN(const Place place, find(*kernel, function, name));
  UPCI_TRY_ASSIGN(auto stand_ins, groups->stand_ins());
  UPCI_TRY_ASSIGN(Groups::Member member, groups->join(place.group, function));
  const int fd = kernel->ioctl(member.group_fd(), VFIO_GROUP_GET_DEVICE_FD, argument_of(function.c_str()));
  if (fd < 0) {
    return refused("VFIO_GROUP_GET_DEVICE_FD", name, fd,
                   fd == -EBUSY ? "the function is open already: use the one that is open, or close it first" : "");
  }
  KernelFd file(kernel, fd);
  UPCI_TRY_ASSIGN(const vfio_device_info info, device_info(*kernel, fd, name));
  const bool has_reset = (info.flags & VFIO_DEVICE_FLAGS_RESET) != 0;
  std::shared_ptr<Backend> backend(new Backend(std::move(member), std::move(file), std::move(name), function,
                                               place.node, has_reset, std::move(stand_ins)));
  UPCI_TRY(backend->regions_.open());
  UPCI_TRY(backend->irqs_.open());
  UPCI_TRY(backend->notices_.open());
  backend->faults_.open();
  return backend;
}

std::uint32_t Backend::config_read(std::uint16_t offset, unsigned width) {
  const std::uint32_t value = control_.abandoned() ? ~std::uint32_t{0} : regions_.config_read(offset, width);
  // An access that was begun before and ends after the device was given up is one of a device that is not there.
  return control_.abandoned() ? static_cast<std::uint32_t>(ones(width)) : value;
}

void Backend::config_write(std::uint16_t offset, unsigned width, std::uint32_t value) {
  control_.config_write(offset, width, value);
}

std::uint64_t Backend::bar_read(unsigned bar, std::uint64_t offset, unsigned width) {
  const std::uint64_t value = control_.abandoned() ? ~std::uint64_t{0} : regions_.bar_read(bar, offset, width);
  return control_.abandoned() ? ones(width) : value;
}

void Backend::bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (!control_.abandoned()) regions_.bar_write(bar, offset, width, value);
}

}  // namespace upci::inline UPCI_VARIANT::vfio
