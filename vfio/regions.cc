// SPDX-License-Identifier: Apache-2.0
#include "vfio/regions.h"

#include <fmt/format.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "base/log.h"
#include "vfio/failure.h"
#include "vfio/info.h"
#include "vfio/memory.h"

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

constexpr const char* kRegionInfo = "VFIO_DEVICE_GET_REGION_INFO";
constexpr std::uint64_t kSmallestConfig = 64;
constexpr std::uint64_t kLargestConfig = 4096;
constexpr std::uint64_t kLargestOffset = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
/// The list lies in the 192 bytes behind the header, and each entry takes at least 4 of them.
constexpr int kMostCapabilities = (256 - 64) / 4;

constexpr std::uint64_t ones(unsigned width) noexcept { return ~std::uint64_t{0} >> (64 - 8 * width); }

constexpr bool valid_width(unsigned width, unsigned widest) noexcept {
  return width != 0 && width <= widest && (width & (width - 1)) == 0;
}

bool inside(std::uint64_t size, std::uint64_t offset, unsigned width) noexcept {
  return offset <= size && width <= size - offset;
}

/// Whether the areas leave nothing of the region out. They need not be in order.
bool covers(std::vector<vfio_region_sparse_mmap_area> areas, std::uint64_t size) {
  std::ranges::sort(areas, {}, &vfio_region_sparse_mmap_area::offset);
  std::uint64_t reached = 0;
  for (const auto& area : areas) {
    if (area.offset > reached || area.size > ~std::uint64_t{0} - area.offset) return false;
    reached = std::max<std::uint64_t>(reached, area.offset + area.size);
  }
  return reached >= size;
}

std::size_t mapped_size(std::uint64_t size) noexcept {
  return static_cast<std::size_t>((size + kPage - 1) / kPage * kPage);
}

template <class T>
std::uint64_t load(const std::byte* at) noexcept {
  return *reinterpret_cast<const volatile T*>(at);
}

template <class T>
void store(std::byte* at, std::uint64_t value) noexcept {
  *reinterpret_cast<volatile T*>(at) = static_cast<T>(value);
}

}  // namespace

Result<Regions::Region> Regions::ask(unsigned index) {
  const std::string on = fmt::format("{}: region {}", file_.name(), index);
  vfio_region_info question{};
  question.index = index;
  UPCI_TRY_ASSIGN(const auto info,
                  ask_info(file_.kernel(), file_.fd(), VFIO_DEVICE_GET_REGION_INFO, kRegionInfo, on, question));
  const vfio_region_info& fixed = info.fixed;
  if (fixed.offset > kLargestOffset || fixed.size > kLargestOffset - fixed.offset) {
    return implausible(kRegionInfo, on,
                       fmt::format("{} bytes at offset {:#x}", std::uint64_t{fixed.size}, std::uint64_t{fixed.offset}));
  }
  Region region{.size = fixed.size,
                .offset = fixed.offset,
                .readable = (fixed.flags & VFIO_REGION_INFO_FLAG_READ) != 0,
                .writable = (fixed.flags & VFIO_REGION_INFO_FLAG_WRITE) != 0,
                .mappable = (fixed.flags & VFIO_REGION_INFO_FLAG_MMAP) != 0 && fixed.offset % kPage == 0};
  if (!region.mappable || (fixed.flags & VFIO_REGION_INFO_FLAG_CAPS) == 0) return region;
  UPCI_TRY_ASSIGN(const auto found, find_info_capability(info.buffer, sizeof(fixed), fixed.cap_offset,
                                                         VFIO_REGION_INFO_CAP_SPARSE_MMAP, kRegionInfo, on));
  if (!found) return region;
  using List = vfio_region_info_cap_sparse_mmap;
  const auto count = value_at<std::uint32_t>(*found, offsetof(List, nr_areas));
  if (!count) return implausible(kRegionInfo, on, "its list of areas to map is cut off");
  std::vector<vfio_region_sparse_mmap_area> areas;
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto area = value_at<vfio_region_sparse_mmap_area>(
        *found, sizeof(List) + std::size_t{i} * sizeof(vfio_region_sparse_mmap_area));
    if (!area) return implausible(kRegionInfo, on, fmt::format("{} areas do not fit its answer", *count));
    areas.push_back(*area);
  }
  region.mappable = covers(std::move(areas), region.size);
  return region;
}

Result<void> Regions::open() {
  UPCI_TRY_ASSIGN(config_, ask(VFIO_PCI_CONFIG_REGION_INDEX));
  if (config_.size < kSmallestConfig || !config_.readable || !config_.writable) {
    return implausible(kRegionInfo, file_.name(),
                       fmt::format("a config space of {} bytes, readable: {}, writable: {}", config_.size,
                                   config_.readable, config_.writable));
  }
  config_.size = std::min(config_.size, kLargestConfig);
  for (unsigned i = 0; i < kBars; ++i) {
    UPCI_TRY_ASSIGN(bars_[i], ask(VFIO_PCI_BAR0_REGION_INDEX + i));
    if (bars_[i].size == 0) continue;
    UPCI_TRY_ASSIGN(const std::uint32_t reg, try_config_read(PCI_BASE_ADDRESS_0 + std::uint64_t{4} * i, 4));
    bars_[i].io = (reg & PCI_BASE_ADDRESS_SPACE) == PCI_BASE_ADDRESS_SPACE_IO;
  }
  UPCI_TRY(enable_decoding());
  for (unsigned i = 0; i < kBars; ++i) {
    if (bars_[i].mappable && !bars_[i].io && bars_[i].size != 0) map(i);
  }
  power_management_ = find_capability(PCI_CAP_ID_PM);
  return {};
}

/// The kernel has usually done it; a driver relies on it.
Result<void> Regions::enable_decoding() {
  std::uint32_t wanted = 0;
  for (const Region& bar : bars_) {
    if (bar.size != 0) wanted |= bar.io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
  }
  UPCI_TRY_ASSIGN(const std::uint32_t command, try_config_read(PCI_COMMAND, 2));
  if (command == 0xffff || (command & wanted) == wanted) return {};  // a device that is gone is not found out here
  return try_config_write(PCI_COMMAND, 2, command | wanted);
}

void Regions::map(unsigned bar) {
  Region& region = bars_[bar];
  const auto mapping = file_.kernel().mmap(nullptr, mapped_size(region.size), PROT_READ | PROT_WRITE, MAP_SHARED,
                                           file_.fd(), region.offset);
  if (mapping) {
    region.mapping = *mapping;
  } else {
    log::warn("{}: BAR {} cannot be mapped (mmap: errno {}): accesses to it take a system call each", file_.name(), bar,
              mapping.error());
  }
}

void Regions::unmap() noexcept {
  for (Region& region : bars_) {
    if (region.mapping != nullptr) file_.kernel().munmap(region.mapping, mapped_size(region.size));
    region.mapping = nullptr;
  }
}

void Regions::cover(const StandIns& stand_ins) noexcept {
  for (const Region& region : bars_) {
    if (region.mapping != nullptr) stand_ins.cover(region.mapping, mapped_size(region.size));
  }
}

bool Regions::any_mapped() const noexcept {
  return std::ranges::any_of(bars_, [](const Region& region) { return region.mapping != nullptr; });
}

// --- Config space ---

std::uint32_t Regions::config_read(std::uint64_t offset, unsigned width) {
  if (!valid_width(width, 4) || !inside(config_.size, offset, width)) return ~std::uint32_t{0};
  return static_cast<std::uint32_t>(read(config_, offset, width));
}

void Regions::config_write(std::uint64_t offset, unsigned width, std::uint32_t value) {
  if (!valid_width(width, 4) || !inside(config_.size, offset, width)) return;
  write(config_, offset, width, keep_decoding(offset, width, value));
}

Result<std::uint32_t> Regions::try_config_read(std::uint64_t offset, unsigned width) {
  std::uint32_t value = 0;
  const std::int64_t got = file_.kernel().pread(file_.fd(), &value, width, config_.offset + offset);
  const std::string call = fmt::format("pread of config space at {:#x}", offset);
  if (got < 0) return refused(call, file_.name(), got);
  if (got != width) return implausible(call, file_.name(), "it gave only a part");
  return value;
}

Result<void> Regions::try_config_write(std::uint64_t offset, unsigned width, std::uint32_t value) {
  const std::int64_t put = write(config_, offset, width, keep_decoding(offset, width, value));
  const std::string call = fmt::format("pwrite of config space at {:#x}", offset);
  if (put < 0) return refused(call, file_.name(), put);
  if (put != width) return implausible(call, file_.name(), "it took only a part");
  return {};
}

std::uint32_t Regions::keep_decoding(std::uint64_t offset, unsigned width, std::uint32_t value) {
  if (!any_mapped()) return value;
  std::uint32_t kept = value;
  // An access is aligned, so it holds the low byte of the register or nothing of it.
  if (offset <= PCI_COMMAND && PCI_COMMAND < offset + width) {
    kept |= std::uint32_t{PCI_COMMAND_MEMORY} << (8 * (PCI_COMMAND - offset));
  }
  const std::uint64_t state = std::uint64_t{power_management_} + PCI_PM_CTRL;
  if (power_management_ != 0 && offset <= state && state < offset + width) {
    kept &= ~(std::uint32_t{PCI_PM_CTRL_STATE_MASK} << (8 * (state - offset)));
  }
  if (kept != value && !kept_.exchange(true, std::memory_order_relaxed)) {
    log::warn(
        "{}: a config write at {:#x} would have switched off BARs that are mapped here, and an access to them would "
        "end this process (SIGBUS): {:#x} is written, not {:#x}",
        file_.name(), offset, kept, value);
  }
  return kept;
}

std::uint16_t Regions::find_capability(std::uint8_t id) {
  const std::uint32_t status = config_read(PCI_STATUS, 2);
  if (status == 0xffff || (status & PCI_STATUS_CAP_LIST) == 0) return 0;
  std::uint32_t offset = config_read(PCI_CAPABILITY_LIST, 1);
  for (int steps = 0; steps < kMostCapabilities; ++steps) {
    offset &= 0xfc;
    if (offset < PCI_STD_HEADER_SIZEOF) return 0;
    if (config_read(offset, 1) == id) return static_cast<std::uint16_t>(offset);
    offset = config_read(offset + PCI_CAP_LIST_NEXT, 1);
  }
  return 0;
}

// --- BARs ---

pci::BarInfo Regions::bar(unsigned bar) const noexcept {
  if (bar >= kBars) return {};
  return {.size = bars_[bar].size, .io = bars_[bar].io, .mapping = bars_[bar].mapping};
}

std::uint64_t Regions::bar_read(unsigned bar, std::uint64_t offset, unsigned width) {
  if (bar >= kBars || !valid_width(width, 8) || !inside(bars_[bar].size, offset, width)) return ~std::uint64_t{0};
  const Region& region = bars_[bar];
  if (region.mapping == nullptr || offset % width != 0) return read(region, offset, width);
  const std::byte* const at = region.mapping + offset;
  switch (width) {
    case 1: return load<std::uint8_t>(at);
    case 2: return load<std::uint16_t>(at);
    case 4: return load<std::uint32_t>(at);
    default: return load<std::uint64_t>(at);
  }
}

void Regions::bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (bar >= kBars || !valid_width(width, 8) || !inside(bars_[bar].size, offset, width)) return;
  const Region& region = bars_[bar];
  if (region.mapping == nullptr || offset % width != 0) {
    write(region, offset, width, value);
    return;
  }
  std::byte* const at = region.mapping + offset;
  switch (width) {
    case 1: return store<std::uint8_t>(at, value);
    case 2: return store<std::uint16_t>(at, value);
    case 4: return store<std::uint32_t>(at, value);
    default: return store<std::uint64_t>(at, value);
  }
}

// --- By system calls ---

/// PCI is little-endian, and so is every machine with VFIO that this code is built for.
std::uint64_t Regions::read(const Region& region, std::uint64_t offset, unsigned width) {
  if (file_.surrendered() || !region.readable) return ones(width);
  std::uint64_t value = 0;
  const std::int64_t got = file_.kernel().pread(file_.fd(), &value, width, region.offset + offset);
  if (got == width) return value;
  if (!file_.surrendered()) note_failure("pread", offset, got);
  return ones(width);
}

std::int64_t Regions::write(const Region& region, std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (file_.surrendered() || !region.writable) return width;
  const std::int64_t put = file_.kernel().pwrite(file_.fd(), &value, width, region.offset + offset);
  if (put != width && !file_.surrendered()) note_failure("pwrite", offset, put);
  return put;
}

void Regions::note_failure(const char* call, std::uint64_t offset, std::int64_t result) {
  if (noted_.exchange(true, std::memory_order_relaxed)) return;
  log::warn(
      "{}: an access at {:#x} failed ({}: {}); such reads are all ones, such writes are lost; no more of them are "
      "reported",
      file_.name(), offset, call, result < 0 ? fmt::format("errno {}", -result) : fmt::format("{} bytes", result));
}

}  // namespace upci::inline UPCI_VARIANT::vfio
