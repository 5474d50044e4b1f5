// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/dma.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

constexpr std::uint64_t kPage = 4096;

struct Range {
  std::uint64_t from, to;
  device::DmaKind kind;
};
// The upper ranges come first, so that a driver that cuts an address to 32 bits is caught; the lower ones are for masks
// below them. Programs have nothing at any of these addresses.
constexpr Range kRanges[] = {
    {0x20'0000'0000, 0x40'0000'0000, device::DmaKind::kTranslated},
    {0x1000'0000, 0x8000'0000, device::DmaKind::kTranslated},
    {0x40'0000'0000, 0x60'0000'0000, device::DmaKind::kPhysical},
    {0x8000'0000, 0x1'0000'0000, device::DmaKind::kPhysical},
};

const Range* range_of(std::uint64_t iova) noexcept {
  for (const Range& range : kRanges) {
    if (iova >= range.from && iova < range.to) return &range;
  }
  return nullptr;
}

std::uint64_t round_up(std::uint64_t value, std::uint64_t align) noexcept { return (value + align - 1) & ~(align - 1); }

struct FreeAligned {
  std::size_t align = kPage;
  void operator()(std::byte* memory) const noexcept { ::operator delete(memory, std::align_val_t{align}); }
};
using Owned = std::unique_ptr<std::byte, FreeAligned>;

/// The driver's end of one allocation or registration.
class EmulatedDmaMemory final : public device::DmaMemory {
 public:
  EmulatedDmaMemory(std::shared_ptr<DmaTable> table, Owned owned, std::byte* va, std::uint64_t iova, std::size_t size)
      : DmaMemory(va, iova, size), table_(std::move(table)), owned_(std::move(owned)) {}
  ~EmulatedDmaMemory() override { table_->remove(iova()); }

 private:
  const std::shared_ptr<DmaTable> table_;
  const Owned owned_;  // empty for registered memory
};

Result<void> check(const device::DmaRequest& request) {
  if (request.len == 0) return fail(Errc::kInvalid, "cannot make DMA memory of 0 bytes");
  if (!std::has_single_bit(request.align)) {
    return fail(Errc::kInvalid, fmt::format("a DMA alignment of {} is no power of two", request.align));
  }
  return {};
}

}  // namespace

bool DmaTable::place(std::uint64_t from, std::uint64_t to, const device::DmaRequest& request,
                     std::uint64_t offset_in_page, std::uint64_t& iova) const {
  const std::uint64_t align = std::max<std::uint64_t>(request.align, kPage);
  std::uint64_t at = from;
  while (at < to) {
    at = round_up(at, align) + offset_in_page;
    if (at >= to || request.len > to - at || at + request.len - 1 > request.mask) return false;
    // The first region that ends after the place (and the free page that follows each one) is in the way if it begins
    // before the place's own end.
    auto next = regions_.upper_bound(at);
    if (next != regions_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second.len + kPage > at) {
        at = before->first + before->second.len + kPage;
        continue;
      }
    }
    if (next != regions_.end() && next->first < at + request.len + kPage) {
      at = next->first + next->second.len + kPage;
      continue;
    }
    iova = at;
    return true;
  }
  return false;
}

Result<std::uint64_t> DmaTable::insert(std::byte* va, const device::DmaRequest& request, std::uint64_t offset_in_page) {
  const std::lock_guard lock(mutex_);
  for (const Range& range : kRanges) {
    if (range.kind != request.kind) continue;
    // An address comes back as late as possible: a device that uses freed memory is caught for longer.
    std::uint64_t& next = next_.try_emplace(range.from, range.from).first->second;
    std::uint64_t iova = 0;
    if (!place(next, range.to, request, offset_in_page, iova) &&
        !place(range.from, range.to, request, offset_in_page, iova)) {
      continue;
    }
    next = iova + request.len;
    regions_.emplace(iova, Region{va, request.len});
    return iova;
  }
  return fail(Errc::kUnavailable,
              fmt::format("no room for {} bytes of DMA memory below {:#x}", request.len, request.mask));
}

void DmaTable::remove(std::uint64_t iova) noexcept {
  const std::lock_guard lock(mutex_);
  regions_.erase(iova);
}

const DmaTable::Region* DmaTable::find(std::uint64_t iova, std::uint64_t len, std::uint64_t& offset) const noexcept {
  auto after = regions_.upper_bound(iova);
  if (after == regions_.begin()) return nullptr;
  const auto& [start, region] = *std::prev(after);
  offset = iova - start;
  if (offset > region.len || len > region.len - offset) return nullptr;
  return &region;
}

std::byte* DmaAccess::at(std::uint64_t iova, std::uint64_t len, std::size_t align) const noexcept {
  const Range* const range = range_of(iova);
  if (range == nullptr || range->kind != kind_) return nullptr;
  std::uint64_t offset = 0;
  const DmaTable::Region* const region = table_.find(iova, len, offset);
  if (region == nullptr) return nullptr;
  std::byte* const va = region->va + offset;
  return (std::bit_cast<std::uintptr_t>(va) & (align - 1)) == 0 ? va : nullptr;
}

std::string DmaAccess::why_not(std::uint64_t iova, std::uint64_t len) const {
  const Range* const range = range_of(iova);
  if (range != nullptr && range->kind != kind_) {
    return fmt::format("{:#x} is {} address, and the device uses {} ones", iova,
                       range->kind == device::DmaKind::kPhysical ? "a physical" : "a translated",
                       kind_ == device::DmaKind::kPhysical ? "physical" : "translated");
  }
  for (const auto& [start, region] : table_.regions_) {
    const std::uint64_t va = std::bit_cast<std::uintptr_t>(region.va);
    if (iova >= va && iova - va < region.len) return fmt::format("{:#x} is an address of the process, no IOVA", iova);
  }
  return fmt::format("{:#x}..{:#x} is not mapped for the device, or not aligned", iova, iova + len);
}

Result<std::unique_ptr<device::DmaMemory>> EmulatedDmaSpace::alloc(const device::DmaRequest& request) {
  UPCI_TRY(check(request));
  // A large alignment is promised of the IOVA only.
  const std::size_t align = std::clamp<std::size_t>(request.align, 64, kPage);
  void* const raw = ::operator new(request.len, std::align_val_t{align}, std::nothrow);
  if (raw == nullptr) return fail_errno(fmt::format("cannot allocate {} bytes of DMA memory", request.len), {}, ENOMEM);
  std::memset(raw, 0, request.len);
  Owned owned(static_cast<std::byte*>(raw), FreeAligned{align});
  std::byte* const va = owned.get();
  UPCI_TRY_ASSIGN(const std::uint64_t iova, table_->insert(va, request, 0));
  return std::make_unique<EmulatedDmaMemory>(table_, std::move(owned), va, iova, request.len);
}

Result<std::unique_ptr<device::DmaMemory>> EmulatedDmaSpace::register_memory(std::span<std::byte> memory,
                                                                             const device::DmaRequest& request) {
  device::DmaRequest wanted = request;
  wanted.len = memory.size();
  UPCI_TRY(check(wanted));
  // The IOVA keeps the address's place in its page, as an IOMMU does.
  const std::uint64_t va = std::bit_cast<std::uintptr_t>(memory.data());
  if ((va & (std::min<std::uint64_t>(wanted.align, kPage) - 1)) != 0) {
    return fail(Errc::kInvalid,
                fmt::format("memory at {:#x} cannot be registered with an alignment of {}", va, wanted.align));
  }
  UPCI_TRY_ASSIGN(const std::uint64_t iova, table_->insert(memory.data(), wanted, va & (kPage - 1)));
  return std::make_unique<EmulatedDmaMemory>(table_, Owned(), memory.data(), iova, memory.size());
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
