// SPDX-License-Identifier: Apache-2.0
#include "emulation/guest_ram.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <mutex>

namespace upci::inline UPCI_VARIANT::emulation {
namespace {

/// Parts are whole cache lines, so that no two of them share one.
constexpr std::uint64_t kGranule = 64;

}  // namespace

class GuestRam::Part final : public device::DmaMemory {
 public:
  Part(std::shared_ptr<GuestRam> ram, std::uint64_t start, std::size_t len, std::uint64_t taken) noexcept
      : DmaMemory(ram->base_ + start, start, len), ram_(std::move(ram)), taken_(taken) {}
  ~Part() override { ram_->give_back(iova(), taken_); }

 private:
  const std::shared_ptr<GuestRam> ram_;
  const std::uint64_t taken_;
};

Result<std::shared_ptr<GuestRam>> GuestRam::create(std::size_t size) {
  if (size % 0x100000 != 0 || size <= kFirstUsable || size > kLargest) {
    return fail(Errc::kInvalid, fmt::format("a guest cannot have {} bytes of RAM", size), "use 2 to 2048 whole MiB");
  }
  UniqueFd memfd(::memfd_create("upci-guest-ram", MFD_CLOEXEC));
  if (!memfd) return fail_errno("cannot make the guest's RAM");
  if (::ftruncate(memfd.get(), static_cast<off_t>(size)) != 0) return fail_errno("cannot size the guest's RAM");
  void* const base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  if (base == MAP_FAILED) return fail_errno("cannot map the guest's RAM");
  return std::shared_ptr<GuestRam>(new GuestRam(std::move(memfd), static_cast<std::byte*>(base), size));
}

GuestRam::GuestRam(UniqueFd memfd, std::byte* base, std::size_t size)
    : memfd_(std::move(memfd)), base_(base), size_(size), free_{{kFirstUsable, size - kFirstUsable}} {}

GuestRam::~GuestRam() { ::munmap(base_, size_); }

Result<std::unique_ptr<device::DmaMemory>> GuestRam::alloc(const device::DmaRequest& request) {
  if (request.len == 0) return fail(Errc::kInvalid, "DMA memory of length 0 was asked for");
  if (!std::has_single_bit(request.align)) {
    return fail(Errc::kInvalid, fmt::format("the DMA alignment {} is not a power of two", request.align));
  }
  const std::uint64_t align = std::max<std::uint64_t>(request.align, kGranule);
  // Compared before rounding up, which could wrap around.
  if (request.len <= size_) {
    const std::uint64_t len = (request.len + kGranule - 1) / kGranule * kGranule;
    const std::scoped_lock lock(mutex_);
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      const auto [hole, hole_len] = *it;
      const std::uint64_t end = hole + hole_len;
      const std::uint64_t start = (hole + align - 1) & ~(align - 1);
      if (start < hole || start > end || end - start < len) continue;
      if (start + request.len - 1 > request.mask) break;  // holes are in ascending order
      free_.erase(it);
      if (start != hole) free_.emplace(hole, start - hole);
      if (start + len != end) free_.emplace(start + len, end - start - len);
      std::memset(base_ + start, 0, len);
      return std::make_unique<Part>(shared_from_this(), start, request.len, len);
    }
  }
  return fail(
      Errc::kUnavailable,
      fmt::format("the guest's RAM of {} MiB has no {} bytes free for DMA (alignment {}, highest address {:#x})",
                  size_ >> 20, request.len, request.align, request.mask),
      "free DMA memory, or use fewer or smaller buffers");
}

Result<std::unique_ptr<device::DmaMemory>> GuestRam::register_memory(std::span<std::byte>, const device::DmaRequest&) {
  return fail(Errc::kUnavailable, "the device reaches the guest's RAM only, not other memory of this process",
              "allocate the memory from the device");
}

void GuestRam::give_back(std::uint64_t start, std::uint64_t len) {
  const std::scoped_lock lock(mutex_);
  auto next = free_.lower_bound(start);
  if (next != free_.end() && start + len == next->first) {
    len += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == start) {
      previous->second += len;
      return;
    }
  }
  free_.emplace(start, len);
}

}  // namespace upci::inline UPCI_VARIANT::emulation
