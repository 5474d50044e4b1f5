// SPDX-License-Identifier: Apache-2.0
#include "vfio/iova_allocator.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <iterator>

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

constexpr std::uint64_t kPreferredLimit = (std::uint64_t{1} << 39) - 1;
constexpr const char* kAdvice = "the kernel's answer makes no sense: look at `dmesg`, and report it";

}  // namespace

std::vector<IovaRange> IovaAllocator::usual_ranges() {
  return {{.first = 0, .last = 0xfedfffff}, {.first = 0xfef00000, .last = kPreferredLimit}};
}

Result<IovaAllocator> IovaAllocator::create(std::vector<IovaRange> usable, std::uint64_t granule) {
  if (!std::has_single_bit(granule)) {
    return fail(Errc::kDevice, fmt::format("an IOMMU page of {} bytes cannot be", granule), kAdvice);
  }
  std::ranges::sort(usable, {}, &IovaRange::first);
  IovaAllocator allocator(granule);
  bool begun = false;
  std::uint64_t end = 0;  // inclusive
  for (const IovaRange& range : usable) {
    if (range.last < range.first || (begun && range.first <= end)) {
      return fail(Errc::kDevice,
                  fmt::format("the usable IOVA ranges contradict each other at {:#x}-{:#x}", range.first, range.last),
                  kAdvice);
    }
    begun = true;
    end = range.last;
    // Whole granules inside; a range that ends with the address space needs care, since one past it is 0.
    std::uint64_t first = std::max(range.first, granule);
    if (first > ~std::uint64_t{0} - (granule - 1)) continue;
    first = (first + granule - 1) & ~(granule - 1);
    const std::uint64_t past = (range.last + 1) & ~(granule - 1);
    const std::uint64_t last = past - 1;
    if (range.last < granule - 1 || last < first) continue;
    // Ranges that touch become one.
    if (!allocator.free_.empty() && std::prev(allocator.free_.end())->second + 1 == first) {
      std::prev(allocator.free_.end())->second = last;
    } else {
      allocator.free_.emplace(first, last);
    }
  }
  if (allocator.free_.empty()) return fail(Errc::kDevice, "no IOVA range is usable", kAdvice);
  return allocator;
}

std::uint64_t IovaAllocator::round_up(std::uint64_t len) const noexcept {
  if (len > ~std::uint64_t{0} - (granule_ - 1)) return 0;
  return (len + granule_ - 1) & ~(granule_ - 1);
}

std::optional<std::uint64_t> IovaAllocator::alloc(std::uint64_t len, std::uint64_t align, std::uint64_t mask) {
  len = round_up(len);
  if (len == 0 || !std::has_single_bit(align)) return std::nullopt;
  align = std::max(align, granule_);
  if (mask > kPreferredLimit) {
    if (const auto start = take_highest(len, align, kPreferredLimit)) return start;
  }
  return take_highest(len, align, mask);
}

std::optional<std::uint64_t> IovaAllocator::take_highest(std::uint64_t len, std::uint64_t align, std::uint64_t limit) {
  for (auto hole = free_.end(); hole != free_.begin();) {
    --hole;
    const std::uint64_t first = hole->first;
    if (first > limit) continue;
    const std::uint64_t last = std::min(hole->second, limit);
    if (last - first < len - 1) continue;
    const std::uint64_t start = (last - (len - 1)) & ~(align - 1);
    if (start < first) continue;
    cut(hole, start, len);
    return start;
  }
  return std::nullopt;
}

bool IovaAllocator::reserve(std::uint64_t start, std::uint64_t len) {
  if (len == 0 || (start | len) % granule_ != 0 || len - 1 > ~start) return false;
  auto hole = free_.upper_bound(start);
  if (hole == free_.begin()) return false;
  --hole;
  if (hole->second < start + (len - 1)) return false;
  cut(hole, start, len);
  return true;
}

void IovaAllocator::cut(std::map<std::uint64_t, std::uint64_t>::iterator hole, std::uint64_t start, std::uint64_t len) {
  const auto [first, last] = *hole;
  const std::uint64_t end = start + (len - 1);
  free_.erase(hole);
  if (first < start) free_.emplace(first, start - 1);
  if (end < last) free_.emplace(end + 1, last);
  taken_.emplace(start, len);
}

bool IovaAllocator::free(std::uint64_t start) {
  const auto part = taken_.find(start);
  if (part == taken_.end()) return false;
  std::uint64_t first = start;
  std::uint64_t last = start + (part->second - 1);
  taken_.erase(part);
  auto next = free_.upper_bound(first);
  if (next != free_.end() && last != ~std::uint64_t{0} && next->first == last + 1) {
    last = next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    if (previous->second + 1 == first) {
      previous->second = last;
      return true;
    }
  }
  free_.emplace(first, last);
  return true;
}

bool IovaAllocator::retire(std::uint64_t start) {
  const auto part = taken_.find(start);
  if (part == taken_.end()) return false;
  retired_ += part->second;
  taken_.erase(part);
  return true;
}

std::uint64_t IovaAllocator::free_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& [first, last] : free_) sum += last - first + 1;
  return sum;
}

}  // namespace upci::inline UPCI_VARIANT::vfio
