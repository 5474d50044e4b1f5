// SPDX-License-Identifier: Apache-2.0
#include "vfio/memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <sys/mman.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/log.h"
#include "base/platform.h"
#include "vfio/failure.h"

// Since Linux 5.14; the C library's headers may be older.
#if !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23
#endif

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

/// A node that would have less left than this is not made to give it: its allocations would call the OOM killer.
constexpr std::uint64_t kNodeReserve = std::uint64_t{16} << 20;

/// /sys/devices/system/node/nodeN/meminfo: "Node 0 MemFree:  123 kB".
bool node_has_room(Kernel& kernel, int node, std::size_t len) {
  const auto text = kernel.read_file(fmt::format("/sys/devices/system/node/node{}/meminfo", node));
  if (!text) return false;
  constexpr std::string_view kLabel = "MemFree:";
  const std::size_t label = text->find(kLabel);
  if (label == std::string::npos) return false;
  const std::size_t digits = text->find_first_not_of(' ', label + kLabel.size());
  if (digits == std::string::npos) return false;
  std::uint64_t kib = 0;
  std::from_chars(text->data() + digits, text->data() + text->size(), kib);
  return kib >= (kNodeReserve >> 10) && kib - (kNodeReserve >> 10) >= len >> 10;
}

void note_preference_once(int node, std::string_view why) {
  static platform::Atomic<bool> noted{false};
  if (!noted.exchange(true, std::memory_order_relaxed)) {
    log::info("DMA memory is only preferred to lie on node {}, not bound to it: {}", node, why);
  }
}

}  // namespace

Memory& Memory::operator=(Memory&& other) noexcept {
  if (this != &other) {
    unmap();
    kernel_ = std::move(other.kernel_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Result<Memory> Memory::map(const std::shared_ptr<Kernel>& kernel, std::size_t len, int flags) {
  const auto at = kernel->mmap(nullptr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (!at) return refused("mmap", fmt::format("{} bytes of DMA memory", len), at.error());
  return Memory(kernel, *at, len);
}

Result<Memory> Memory::allocate(const std::shared_ptr<Kernel>& kernel, std::size_t len, int node, Pages pages) {
  if (pages == Pages::kHuge || (pages == Pages::kAny && len >= kHugePage)) {
    const std::size_t whole = (len + kHugePage - 1) / kHugePage * kHugePage;
    auto memory = map(kernel, whole, static_cast<int>(MAP_HUGETLB | MAP_HUGE_2MB));
    Result<void> filled;
    if (memory) {
      memory->place(node, true);
      filled = memory->populate(true);
      if (filled) return memory;
    }
    if (pages == Pages::kHuge) return std::unexpected(std::move(memory ? filled.error() : memory.error()));
  }
  const bool transparent = pages == Pages::kTransparent && len % kHugePage == 0;
  UPCI_TRY_ASSIGN(Memory memory, map(kernel, transparent ? len + kHugePage : len, 0));
  if (transparent) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    memory.keep_only((kHugePage - address % kHugePage) % kHugePage, len);
    static_cast<void>(kernel->madvise(memory.data(), len, MADV_HUGEPAGE));  // advice: some kernels have none
  }
  memory.place(node, false);
  UPCI_TRY(memory.populate(false));
  return memory;
}

/// Where the memory cannot be bound to the node it is asked for there; and memory elsewhere is better than none.
void Memory::place(int node, bool huge) {
  if (node < 0) return;
  int bound = -ENOMEM;
  // The pool of huge pages says no; normal pages would rather kill a process.
  if (huge || node_has_room(*kernel_, node, size_)) bound = kernel_->mbind(data_, size_, MPOL_BIND, node);
  if (bound == 0) return;
  const int preferred = kernel_->mbind(data_, size_, MPOL_PREFERRED, node);
  note_preference_once(node, preferred != 0 ? "the kernel takes no memory policy" : "it is short of free memory");
}

Result<void> Memory::populate(bool huge) {
  int result = kernel_->madvise(data_, size_, MADV_POPULATE_WRITE);
  if (result == -EINVAL && !huge) {
    std::memset(data_, 0, size_);  // an older kernel; normal pages can simply be touched
    result = 0;
  }
  if (result != 0) return refused("madvise(MADV_POPULATE_WRITE)", fmt::format("{} bytes of DMA memory", size_), result);
  // A child that shares the pages would make the parent's next write go to a copy that the device does not know.
  if (const int advised = kernel_->madvise(data_, size_, MADV_DONTFORK); advised != 0) {
    return refused("madvise(MADV_DONTFORK)", fmt::format("{} bytes of DMA memory", size_), advised);
  }
  return {};
}

void Memory::keep_only(std::size_t offset, std::size_t len) noexcept {
  const std::size_t behind = size_ - offset - len;
  if (behind != 0) kernel_->munmap(data_ + offset + len, behind);
  if (offset != 0) kernel_->munmap(data_, offset);
  data_ += offset;
  size_ = len;
}

void Memory::leak() noexcept {
  data_ = nullptr;
  size_ = 0;
}

Result<void> Memory::lock() {
  if (const int result = kernel_->mlock(data_, size_); result != 0) {
    return refused("mlock", fmt::format("{} bytes of DMA memory", size_), result,
                   "raise the limit on locked memory (ulimit -l unlimited) or run as root");
  }
  return {};
}

void Memory::unmap() noexcept {
  if (data_ != nullptr) kernel_->munmap(data_, size_);
  data_ = nullptr;
}

/// Documentation/admin-guide/mm/pagemap.rst: eight bytes a page; bit 63 present, bits 0-54 the frame.
Result<std::vector<std::uint64_t>> physical_pages(const std::shared_ptr<Kernel>& kernel, const std::byte* at,
                                                  std::size_t len) {
  constexpr std::uint64_t kPresent = std::uint64_t{1} << 63;
  constexpr std::uint64_t kFrame = (std::uint64_t{1} << 55) - 1;
  constexpr const char* kWhere = "the physical address of DMA memory";
  const int fd = kernel->open("/proc/self/pagemap", O_RDONLY);
  if (fd < 0) return refused("open(/proc/self/pagemap)", kWhere, fd, "mount /proc, and run as root (CAP_SYS_ADMIN)");
  const KernelFd pagemap(kernel, fd);
  std::vector<std::uint64_t> pages(len / kPage);
  const std::size_t bytes = pages.size() * sizeof(std::uint64_t);
  const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(at) / kPage * sizeof(std::uint64_t);
  const std::int64_t got = kernel->pread(pagemap.get(), pages.data(), bytes, offset);
  if (got < 0) return refused("pread(/proc/self/pagemap)", kWhere, got, "run as root (CAP_SYS_ADMIN)");
  if (static_cast<std::size_t>(got) != bytes) {
    return implausible("pread(/proc/self/pagemap)", kWhere, fmt::format("{} of {} bytes", got, bytes));
  }
  for (std::uint64_t& page : pages) {
    if ((page & kPresent) == 0) {
      return implausible("pread(/proc/self/pagemap)", kWhere, "a locked page is not present");
    }
    if ((page & kFrame) == 0) {
      return fail(
          Errc::kUnavailable, fmt::format("{}: /proc/self/pagemap shows no frame numbers to this user", kWhere),
          "the device bypasses the IOMMU, so its driver needs physical addresses: run as root (CAP_SYS_ADMIN), or "
          "use a device that goes through the IOMMU (virtio: iommu_platform=on)");
    }
    page = (page & kFrame) * kPage;
  }
  return pages;
}

}  // namespace upci::inline UPCI_VARIANT::vfio
