// SPDX-License-Identifier: Apache-2.0
// The ioctls of the kernel that exists only here.
#include <fmt/format.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "tests/vfio/fake_kernel.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

template <class T>
T& at(std::uintptr_t argument) {
  return *reinterpret_cast<T*>(argument);
}

const char* name_of(unsigned long request) {
  switch (request) {
    case VFIO_GET_API_VERSION: return "VFIO_GET_API_VERSION";
    case VFIO_CHECK_EXTENSION: return "VFIO_CHECK_EXTENSION";
    case VFIO_SET_IOMMU: return "VFIO_SET_IOMMU";
    case VFIO_GROUP_GET_STATUS: return "VFIO_GROUP_GET_STATUS";
    case VFIO_GROUP_SET_CONTAINER: return "VFIO_GROUP_SET_CONTAINER";
    case VFIO_GROUP_UNSET_CONTAINER: return "VFIO_GROUP_UNSET_CONTAINER";
    case VFIO_GROUP_GET_DEVICE_FD: return "VFIO_GROUP_GET_DEVICE_FD";
    case VFIO_DEVICE_GET_INFO: return "VFIO_DEVICE_GET_INFO";
    case VFIO_DEVICE_GET_REGION_INFO: return "VFIO_DEVICE_GET_REGION_INFO";
    case VFIO_DEVICE_GET_IRQ_INFO: return "VFIO_DEVICE_GET_IRQ_INFO";
    case VFIO_DEVICE_SET_IRQS: return "VFIO_DEVICE_SET_IRQS";
    case VFIO_DEVICE_RESET: return "VFIO_DEVICE_RESET";
    case VFIO_IOMMU_GET_INFO: return "VFIO_IOMMU_GET_INFO";
    case VFIO_IOMMU_MAP_DMA: return "VFIO_IOMMU_MAP_DMA";
    case VFIO_IOMMU_UNMAP_DMA: return "VFIO_IOMMU_UNMAP_DMA";
    default: return "an ioctl that nobody knows";
  }
}

}  // namespace

// VFIO_DEVICE_RESET and VFIO_IOMMU_GET_INFO differ in their numbers only; which file it is says the rest.
int FakeKernel::ioctl(int fd, unsigned long request, std::uintptr_t argument) {
  if (const int error = gate(name_of(request)); error != 0) return error;
  const auto found = files_.find(fd);
  if (found == files_.end()) {
    violations.push_back(fmt::format("{} on {}, which is not open", name_of(request), fd));
    return -EBADF;
  }
  File& file = found->second;
  switch (file.kind) {
    case File::Kind::kContainer: return container_ioctl(file, request, argument);
    case File::Kind::kGroup: return group_ioctl(file, request, argument);
    case File::Kind::kDevice: return device_ioctl(file, request, argument);
    default: return -ENOTTY;
  }
}

int FakeKernel::group_ioctl(File& file, unsigned long request, std::uintptr_t argument) {
  switch (request) {
    case VFIO_GROUP_GET_STATUS: {
      const bool viable = std::ranges::all_of(functions_, [&](const FakeFunction& each) {
        return each.group != file.group || each.driver.empty() || each.driver.ends_with("vfio-pci") ||
               each.driver == "pcieport";
      });
      at<vfio_group_status>(argument).flags = viable ? VFIO_GROUP_FLAGS_VIABLE : 0;
      return 0;
    }
    case VFIO_GROUP_SET_CONTAINER: {
      const auto container = files_.find(at<int>(argument));
      if (container == files_.end() || container->second.kind != File::Kind::kContainer) return -EBADF;
      if (file.container) return -EINVAL;
      file.container = container->second.container;
      ++file.container->groups;
      return 0;
    }
    case VFIO_GROUP_UNSET_CONTAINER: {
      if (!file.container) return -EINVAL;
      for (const FakeFunction& function : functions_) {
        if (function.group == file.group && device_open(function)) return -EBUSY;
      }
      if (--file.container->groups == 0) {
        file.container->mappings.clear();
        file.container->typed = false;
      }
      file.container.reset();
      return 0;
    }
    case VFIO_GROUP_GET_DEVICE_FD: {
      FakeFunction* const function = find(reinterpret_cast<const char*>(argument));
      if (!file.container || !file.container->typed) return -EINVAL;
      if (function == nullptr || function->group != file.group) return -ENODEV;
      if (device_open(*function)) return -EBUSY;
      for (unsigned i = 0; i < 6; ++i) { function->config[PCI_BASE_ADDRESS_0 + 4 * i] = function->bars[i].io ? 1 : 0; }
      return add_file({.kind = File::Kind::kDevice, .function = function});
    }
    default: return -ENOTTY;
  }
}

int FakeKernel::container_ioctl(File& file, unsigned long request, std::uintptr_t argument) {
  Container& container = *file.container;
  switch (request) {
    case VFIO_GET_API_VERSION: return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
      return argument == VFIO_TYPE1_IOMMU || (argument == VFIO_TYPE1v2_IOMMU && type1v2) ? 1 : 0;
    case VFIO_SET_IOMMU:
      if (container.groups == 0 || container.typed) return -EINVAL;
      if (!interrupt_remapping) return -EPERM;
      container.typed = true;
      return 0;
    default: break;
  }
  if (!container.typed) return -EINVAL;
  switch (request) {
    case VFIO_IOMMU_GET_INFO: return iommu_info(argument);
    case VFIO_IOMMU_MAP_DMA: return map_dma(container, argument);
    case VFIO_IOMMU_UNMAP_DMA: return unmap_dma(container, argument);
    default: return -ENOTTY;
  }
}

int FakeKernel::iommu_info(std::uintptr_t argument) {
  auto& info = at<vfio_iommu_type1_info>(argument);
  const std::uint32_t room = info.argsz;
  info.flags = VFIO_IOMMU_INFO_PGSIZES;
  info.iova_pgsizes = page_sizes;
  if (!iova_ranges) return 0;
  // A capability of another kind comes first, as the kernel's own may.
  constexpr std::uint32_t kFirst = sizeof(vfio_iommu_type1_info);
  constexpr std::uint32_t kSecond = kFirst + sizeof(vfio_iommu_type1_info_dma_avail) + 4;
  const auto needed = static_cast<std::uint32_t>(kSecond + sizeof(vfio_iommu_type1_info_cap_iova_range) +
                                                 iova_ranges->size() * sizeof(vfio_iova_range));
  info.flags |= VFIO_IOMMU_INFO_CAPS;
  info.argsz = needed;
  if (room < needed) return 0;
  info.cap_offset = kFirst;
  auto* const bytes = reinterpret_cast<std::byte*>(argument);
  vfio_iommu_type1_info_dma_avail avail{};
  avail.header = {.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, .version = 1, .next = kSecond};
  std::memcpy(bytes + kFirst, &avail, sizeof(avail));
  vfio_iommu_type1_info_cap_iova_range head;
  std::memset(&head, 0, sizeof(head));
  head.header = {.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, .version = 1, .next = 0};
  head.nr_iovas = static_cast<std::uint32_t>(iova_ranges->size());
  std::memcpy(bytes + kSecond, &head, sizeof(head));
  std::size_t place = kSecond + sizeof(head);
  for (const auto& [first, last] : *iova_ranges) {
    const vfio_iova_range range{.start = first, .end = last};
    std::memcpy(bytes + place, &range, sizeof(range));
    place += sizeof(range);
  }
  return 0;
}

int FakeKernel::map_dma(Container& container, std::uintptr_t argument) {
  const auto& map = at<vfio_iommu_type1_dma_map>(argument);
  if (map.argsz < sizeof(map) || map.size == 0 || (map.vaddr | map.iova | map.size) % 4096 != 0) return -EINVAL;
  if (container.mappings.size() >= most_mappings) return -ENOSPC;
  for (const auto& [iova, range] : container.mappings) {
    if (map.iova < iova + range.second && iova < map.iova + map.size) return -EEXIST;
  }
  const auto usable = [&](const auto& range) {
    return map.iova >= range.first && map.iova + (map.size - 1) <= range.second;
  };
  if (iova_ranges && std::ranges::none_of(*iova_ranges, usable)) return -EINVAL;
  if (moves_when_pinned) {
    moves_when_pinned = false;
    for (std::uint64_t done = 0; done < map.size; done += 4096)
      pages_[map.vaddr + done].physical += std::uint64_t{1} << 32;
  }
  container.mappings.emplace(map.iova, std::pair(map.vaddr, map.size));
  mapped_ever.emplace_back(map.iova, map.size);
  return 0;
}

int FakeKernel::unmap_dma(Container& container, std::uintptr_t argument) {
  auto& unmap = at<vfio_iommu_type1_dma_unmap>(argument);
  const auto found = container.mappings.find(unmap.iova);
  if (found == container.mappings.end() || found->second.second != unmap.size || short_unmap) {
    unmap.size = 0;
    return 0;
  }
  container.mappings.erase(found);
  return 0;
}

int FakeKernel::device_ioctl(File& file, unsigned long request, std::uintptr_t argument) {
  FakeFunction& function = *file.function;
  switch (request) {
    case VFIO_DEVICE_GET_INFO: {
      auto& info = at<vfio_device_info>(argument);
      info.flags = VFIO_DEVICE_FLAGS_PCI | (function.has_reset ? std::uint32_t{VFIO_DEVICE_FLAGS_RESET} : 0U);
      info.num_regions = VFIO_PCI_NUM_REGIONS;
      info.num_irqs = VFIO_PCI_NUM_IRQS;
      return 0;
    }
    case VFIO_DEVICE_GET_REGION_INFO: return region_info(function, argument);
    case VFIO_DEVICE_GET_IRQ_INFO: return irq_info(function, argument);
    case VFIO_DEVICE_SET_IRQS: return set_irqs(function, argument);
    case VFIO_DEVICE_RESET:
      if (function.reset_refusal != 0) return -function.reset_refusal;
      if (function.reset_busy-- > 0) return -EAGAIN;
      ++function.resets;
      return 0;
    default: return -ENOTTY;
  }
}

int FakeKernel::region_info(FakeFunction& function, std::uintptr_t argument) {
  auto& info = at<vfio_region_info>(argument);
  const std::uint32_t room = info.argsz;
  info.offset = std::uint64_t{info.index} << 40;
  info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
  info.size = 0;
  if (info.index == VFIO_PCI_CONFIG_REGION_INDEX) info.size = function.config.size();
  if (info.index >= 6) return info.index < VFIO_PCI_NUM_REGIONS ? 0 : -EINVAL;
  const FakeBar& bar = function.bars[info.index];
  info.size = bar.size;
  if (bad_region_offset) info.offset = *bad_region_offset;
  if (bar.size == 0 || bar.io || !bar.mappable) return 0;
  info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
  if (bad_region_chain) {
    info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
    info.argsz = sizeof(info) + 64;
    if (room < info.argsz) return 0;
    info.cap_offset = *bad_region_chain;
    // At the end of the fixed part: a capability that leads to itself.
    const vfio_info_cap_header loop{.id = 77, .version = 1, .next = sizeof(info)};
    std::memcpy(reinterpret_cast<std::byte*>(argument) + sizeof(info), &loop, sizeof(loop));
    return 0;
  }
  if (!bar.sparse) return 0;
  info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
  info.argsz = static_cast<std::uint32_t>(sizeof(info) + sizeof(vfio_region_info_cap_sparse_mmap) +
                                          bar.sparse->size() * sizeof(vfio_region_sparse_mmap_area));
  if (room < info.argsz) return 0;
  info.cap_offset = sizeof(info);
  auto* const bytes = reinterpret_cast<std::byte*>(argument) + sizeof(info);
  vfio_region_info_cap_sparse_mmap head;
  std::memset(&head, 0, sizeof(head));
  head.header = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1, .next = 0};
  head.nr_areas = static_cast<std::uint32_t>(bar.sparse->size());
  std::memcpy(bytes, &head, sizeof(head));
  for (std::size_t i = 0; i < bar.sparse->size(); ++i) {
    const vfio_region_sparse_mmap_area area{.offset = (*bar.sparse)[i].first, .size = (*bar.sparse)[i].second};
    std::memcpy(bytes + sizeof(head) + i * sizeof(area), &area, sizeof(area));
  }
  return 0;
}

int FakeKernel::irq_info(FakeFunction& function, std::uintptr_t argument) {
  auto& info = at<vfio_irq_info>(argument);
  info.flags = VFIO_IRQ_INFO_EVENTFD;
  switch (info.index) {
    case VFIO_PCI_INTX_IRQ_INDEX: info.count = function.intx; return 0;
    case VFIO_PCI_MSI_IRQ_INDEX: info.count = function.msi; return 0;
    case VFIO_PCI_MSIX_IRQ_INDEX: info.count = function.msix; return 0;
    case VFIO_PCI_ERR_IRQ_INDEX: info.count = 1; return function.error ? 0 : -EINVAL;
    case VFIO_PCI_REQ_IRQ_INDEX: info.count = 1; return function.request ? 0 : -EINVAL;
    default: return -EINVAL;
  }
}

int FakeKernel::set_irqs(FakeFunction& function, std::uintptr_t argument) {
  const auto& set = at<vfio_irq_set>(argument);
  const std::uint32_t data = set.flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
  const std::uint32_t action = set.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
  if (action != VFIO_IRQ_SET_ACTION_TRIGGER) {
    if (set.index != VFIO_PCI_INTX_IRQ_INDEX || data != VFIO_IRQ_SET_DATA_NONE) return -ENOTTY;
    function.line_masked = action == VFIO_IRQ_SET_ACTION_MASK;
    return 0;
  }
  if (data == VFIO_IRQ_SET_DATA_NONE && set.count == 0) {
    std::erase_if(function.routes, [&](const auto& each) { return each.first.first == set.index; });
    return 0;
  }
  if (data == VFIO_IRQ_SET_DATA_NONE) {
    for (unsigned i = 0; i < set.count; ++i) raise(function, set.index, set.start + i);
    return 0;
  }
  const unsigned offered = set.index == VFIO_PCI_MSIX_IRQ_INDEX  ? function.msix
                           : set.index == VFIO_PCI_MSI_IRQ_INDEX ? function.msi
                                                                 : 1;
  if (set.start + set.count > offered) return -EINVAL;
  if (set.index == VFIO_PCI_MSIX_IRQ_INDEX && set.count > vectors_left) return static_cast<int>(vectors_left);
  for (unsigned i = 0; i < set.count; ++i) {
    int fd = -1;
    std::memcpy(&fd, reinterpret_cast<const std::byte*>(argument) + offsetof(vfio_irq_set, data) + i * sizeof(fd),
                sizeof(fd));
    if (fd < 0) {
      function.routes.erase({set.index, set.start + i});
    } else {
      function.routes[{set.index, set.start + i}] = fd;
    }
  }
  if (set.index == VFIO_PCI_INTX_IRQ_INDEX) function.line_masked = false;
  return 0;
}

void FakeKernel::raise(FakeFunction& function, unsigned index, unsigned vector) {
  const auto route = function.routes.find({index, vector});
  if (route == function.routes.end()) return;
  if (index == VFIO_PCI_INTX_IRQ_INDEX && std::exchange(function.line_masked, true)) return;
  const std::uint64_t one = 1;
  if (::write(route->second, &one, sizeof(one)) != sizeof(one))
    violations.push_back("an eventfd that cannot be written");
}

}  // namespace upci::inline UPCI_VARIANT::test
