// SPDX-License-Identifier: Apache-2.0
#include "vfio/container.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/vfio.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <mutex>
#include <vector>

#include "base/log.h"
#include "vfio/failure.h"
#include "vfio/info.h"
#include "vfio/memory.h"

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

constexpr const char* kPath = "/dev/vfio/vfio";

std::string advice_for_open(int error) {
  switch (-error) {
    case ENOENT:
    case ENODEV:
    case ENXIO: return "load VFIO (modprobe vfio-pci); without an IOMMU switched on (intel_iommu=on) it is of no use";
    case EACCES:
      return "run as root, or give this user /dev/vfio/vfio (it is usually open to all) and the group's file";
    default: return {};
  }
}

/// The usable ranges of VFIO_IOMMU_GET_INFO's chain, or the usual ones when it has none.
Result<std::vector<IovaRange>> usable_ranges(const Info<vfio_iommu_type1_info>& info, const std::string& on) {
  constexpr const char* kCall = "VFIO_IOMMU_GET_INFO";
  if ((info.fixed.flags & VFIO_IOMMU_INFO_CAPS) == 0) return IovaAllocator::usual_ranges();
  UPCI_TRY_ASSIGN(const auto found, find_info_capability(info.buffer, sizeof(info.fixed), info.fixed.cap_offset,
                                                         VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, kCall, on));
  if (!found) return IovaAllocator::usual_ranges();
  using List = vfio_iommu_type1_info_cap_iova_range;
  const auto count = value_at<std::uint32_t>(*found, offsetof(List, nr_iovas));
  if (!count) return implausible(kCall, on, "its list of IOVA ranges is cut off");
  if (*count == 0) return implausible(kCall, on, "no IOVA range is usable");
  std::vector<IovaRange> ranges;
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto range = value_at<vfio_iova_range>(*found, sizeof(List) + std::size_t{i} * sizeof(vfio_iova_range));
    if (!range) return implausible(kCall, on, fmt::format("{} IOVA ranges do not fit its answer", *count));
    ranges.push_back({.first = range->start, .last = range->end});
  }
  return ranges;
}

}  // namespace

Result<std::shared_ptr<Container>> Container::create(std::shared_ptr<Kernel> kernel) {
  const int opened = kernel->open(kPath, O_RDWR);
  if (opened < 0) return refused("open", kPath, opened, advice_for_open(opened));
  KernelFd fd(kernel, opened);
  const int version = kernel->ioctl(fd.get(), VFIO_GET_API_VERSION, 0);
  if (version < 0) return refused("VFIO_GET_API_VERSION", kPath, version);
  if (version != VFIO_API_VERSION) {
    return fail(Errc::kUnavailable,
                fmt::format("{}: VFIO has the API version {}, not {}", kPath, version, VFIO_API_VERSION),
                "this program is too old for the kernel: update it");
  }
  for (const int type : {VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU}) {
    const int has = kernel->ioctl(fd.get(), VFIO_CHECK_EXTENSION, static_cast<std::uintptr_t>(type));
    if (has < 0) return refused("VFIO_CHECK_EXTENSION", kPath, has);
    if (has > 0) return std::shared_ptr<Container>(new Container(std::move(kernel), std::move(fd), type));
  }
  return fail(
      Errc::kUnavailable, fmt::format("{}: VFIO_CHECK_EXTENSION: VFIO has no type 1 IOMMU here", kPath),
      "load it (modprobe vfio_iommu_type1), and switch the IOMMU on (intel_iommu=on, and VT-d in the firmware)");
}

Result<void> Container::set_iommu(const std::string& on) {
  if (const int set = kernel_->ioctl(fd_.get(), VFIO_SET_IOMMU, static_cast<std::uintptr_t>(type_)); set < 0) {
    if (set == -EPERM) {
      return refused(
          "VFIO_SET_IOMMU", on, set,
          "the machine has no interrupt remapping, without which a device can send any interrupt to any CPU: "
          "switch it on in the firmware or the kernel (intremap=on); or, where the devices and their drivers "
          "are trusted, `modprobe vfio_iommu_type1 allow_unsafe_interrupts=1`");
    }
    return refused("VFIO_SET_IOMMU", on, set);
  }
  UPCI_TRY_ASSIGN(const auto info, ask_info(*kernel_, fd_.get(), VFIO_IOMMU_GET_INFO, "VFIO_IOMMU_GET_INFO", on,
                                            vfio_iommu_type1_info{}));
  UPCI_TRY_ASSIGN(std::vector<IovaRange> ranges, usable_ranges(info, on));
  std::uint64_t granule = kPage;
  if ((info.fixed.flags & VFIO_IOMMU_INFO_PGSIZES) != 0) {
    if (info.fixed.iova_pgsizes == 0) return implausible("VFIO_IOMMU_GET_INFO", on, "an IOMMU without a page size");
    const std::uint64_t smallest = std::uint64_t{1} << std::countr_zero(info.fixed.iova_pgsizes);
    if (smallest > kHugePage) {
      return implausible("VFIO_IOMMU_GET_INFO", on, fmt::format("IOMMU pages of at least {} bytes", smallest));
    }
    granule = std::max<std::uint64_t>(granule, smallest);
  }
  auto iovas = IovaAllocator::create(std::move(ranges), granule);
  if (!iovas) {
    iovas.error().what = on + ": VFIO_IOMMU_GET_INFO: " + iovas.error().what;
    return std::unexpected(std::move(iovas).error());
  }
  const std::scoped_lock lock(mutex_);
  granule_ = granule;
  iovas_ = std::move(*iovas);
  return {};
}

Result<std::uint64_t> Container::map(std::byte* va, std::uint64_t size, std::uint64_t align, std::uint64_t mask) {
  const std::scoped_lock lock(mutex_);
  const auto iova = iovas_->alloc(size, align, mask);
  if (!iova) {
    return fail(Errc::kUnavailable,
                fmt::format("no {} bytes of the IOMMU's address space are free (alignment {}, highest address {:#x})",
                            size, align, mask),
                "free DMA memory, or use fewer or smaller buffers");
  }
  if (auto mapped = map_locked(va, size, *iova); !mapped) return std::unexpected(std::move(mapped).error());
  return *iova;
}

Result<void> Container::map_at(std::byte* va, std::uint64_t size, std::uint64_t iova) {
  const std::scoped_lock lock(mutex_);
  if (!iovas_->reserve(iova, size)) {
    return fail(Errc::kState, fmt::format("the IOVA range {:#x} of {} bytes is taken or not usable", iova, size));
  }
  return map_locked(va, size, iova);
}

Result<void> Container::map_locked(std::byte* va, std::uint64_t size, std::uint64_t iova) {
  vfio_iommu_type1_dma_map request{.argsz = sizeof(request),
                                   .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                                   .vaddr = reinterpret_cast<std::uintptr_t>(va),
                                   .iova = iova,
                                   .size = size};
  const int result = detached_ ? -ENODEV : kernel_->ioctl(fd_.get(), VFIO_IOMMU_MAP_DMA, argument_of(&request));
  if (result >= 0) {
    ++mappings_;
    return {};
  }
  iovas_->free(iova);
  const std::string on = fmt::format("{} bytes of DMA memory at IOVA {:#x}", size, iova);
  constexpr const char* kCall = "VFIO_IOMMU_MAP_DMA";
  switch (-result) {
    case ENOMEM:
      return refused(
          kCall, on, result,
          "VFIO locks DMA memory: raise RLIMIT_MEMLOCK (ulimit -l unlimited), or use fewer or smaller buffers");
    case ENOSPC:
      return refused(kCall, on, result,
                     "VFIO allows 65535 mappings a container: use fewer and larger pieces, or raise vfio_iommu_type1's "
                     "parameter dma_entry_limit");
    case EFAULT:
      return refused(kCall, on, result,
                     "this memory cannot be pinned: give the device ordinary memory of this process");
    default: return refused(kCall, on, result);
  }
}

bool Container::unmap(std::uint64_t iova, std::uint64_t size, Reuse reuse) noexcept {
  const std::scoped_lock lock(mutex_);
  if (detached_) return true;
  vfio_iommu_type1_dma_unmap request{.argsz = sizeof(request), .flags = 0, .iova = iova, .size = size};
  const int result = kernel_->ioctl(fd_.get(), VFIO_IOMMU_UNMAP_DMA, argument_of(&request));
  // The kernel says how much it has unmapped; less than all is not enough.
  const bool done = result >= 0 && request.size == size;
  if (!done) {
    log::error("VFIO_IOMMU_UNMAP_DMA of {} bytes at IOVA {:#x} failed ({}, {} bytes unmapped): the memory is kept",
               size, iova, result < 0 ? -result : 0, result < 0 ? 0 : std::uint64_t{request.size});
    iovas_->retire(iova);
    return false;
  }
  --mappings_;
  if (reuse == Reuse::kYes) {
    iovas_->free(iova);
  } else {
    iovas_->retire(iova);
  }
  return true;
}

void Container::detached() noexcept {
  const std::scoped_lock lock(mutex_);
  detached_ = true;
  mappings_ = 0;
}

bool Container::is_detached() const noexcept {
  const std::scoped_lock lock(mutex_);
  return detached_;
}

std::size_t Container::mappings() const noexcept {
  const std::scoped_lock lock(mutex_);
  return mappings_;
}

std::uint64_t Container::retired_bytes() const noexcept {
  const std::scoped_lock lock(mutex_);
  return iovas_ ? iovas_->retired_bytes() : 0;
}

}  // namespace upci::inline UPCI_VARIANT::vfio
