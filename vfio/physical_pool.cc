// SPDX-License-Identifier: Apache-2.0
#include "vfio/physical_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

/// Parts are whole cache lines, so that no two of them share one.
constexpr std::uint64_t kLine = 64;
/// Windows of normal pages that are looked through for a run. Each is kept until the search ends, so that the next one
/// consists of other pages.
constexpr int kMostWindows = 8;

struct Run {
  std::size_t page = 0;
  std::size_t pages = 0;
};

/// The longest run of pages side by side that lies below the mask.
Run longest_run(const std::vector<std::uint64_t>& pages, std::uint64_t mask) {
  Run best;
  Run now;
  for (std::size_t i = 0; i < pages.size(); ++i) {
    const bool fits = pages[i] <= mask && mask - pages[i] >= kPage - 1;
    if (!fits) {
      now.pages = 0;
      continue;
    }
    if (now.pages != 0 && pages[i] == pages[i - 1] + kPage) {
      ++now.pages;
    } else {
      now = {.page = i, .pages = 1};
    }
    if (now.pages > best.pages) best = now;
  }
  return best;
}

}  // namespace

PhysicalPool::~PhysicalPool() {
  for (Chunk& chunk : chunks_) release(chunk);
}

Result<PhysicalPool::Part> PhysicalPool::alloc(const device::DmaRequest& request) {
  const std::scoped_lock lock(mutex_);
  for (Chunk& chunk : chunks_) {
    if (chunk.node != request.node) continue;
    if (auto part = take(chunk, request)) return std::move(*part);
  }
  UPCI_TRY_ASSIGN(const auto chunk, add_chunk(request));
  if (auto part = take(*chunk, request)) return std::move(*part);
  release(*chunk);
  chunks_.erase(chunk);
  return fail(Errc::kUnavailable,
              fmt::format("no {} bytes of contiguous memory are aligned to {}", request.len, request.align),
              "ask for an alignment of at most 2 MiB");
}

std::optional<PhysicalPool::Part> PhysicalPool::take(Chunk& chunk, const device::DmaRequest& request) {
  const auto address = chunk.parts.alloc(request.len, request.align, request.mask);
  if (!address) return std::nullopt;
  std::byte* const va = chunk.memory.data() + (*address - chunk.address);
  std::memset(va, 0, request.len);  // an earlier owner may have left something
  return Part(shared_from_this(), va, *address, request.len);
}

/// A huge page is contiguous by itself. Of normal pages the longest run is taken; the rest goes back.
Result<std::optional<PhysicalPool::Candidate>> PhysicalPool::find_run(const device::DmaRequest& request,
                                                                      std::size_t len, bool huge,
                                                                      std::list<Memory>& rejected) {
  const std::shared_ptr<Kernel>& kernel = container_->kernel();
  const std::size_t window = (len + kHugePage - 1) / kHugePage * kHugePage;
  auto allocated =
      Memory::allocate(kernel, window, request.node, huge ? Memory::Pages::kHuge : Memory::Pages::kTransparent);
  if (!allocated) {
    if (huge) return std::optional<Candidate>();  // a machine without huge pages is an ordinary one
    return std::unexpected(std::move(allocated).error());
  }
  Memory memory = std::move(*allocated);
  UPCI_TRY(memory.lock());
  UPCI_TRY_ASSIGN(const std::vector<std::uint64_t> pages, physical_pages(kernel, memory.data(), memory.size()));
  const Run run = longest_run(pages, request.mask);
  // A part begins at a multiple of the alignment, so there has to be one inside.
  const std::uint64_t address = run.pages == 0 ? 0 : pages[run.page];
  const std::uint64_t aligned = (address + request.align - 1) & ~(std::uint64_t{request.align} - 1);
  const bool enough = run.pages != 0 && run.pages * kPage >= (aligned - address) + request.len;
  if (!enough || (huge && run.pages * kPage != memory.size())) {
    rejected.push_back(std::move(memory));
    return std::optional<Candidate>();
  }
  if (!huge) memory.keep_only(run.page * kPage, run.pages * kPage);
  return std::optional(Candidate{.memory = std::move(memory), .address = address});
}

/// False when its IOVA is taken by something else, or when the pages were moved before they were pinned.
Result<bool> PhysicalPool::map(Candidate& candidate) {
  const Memory& memory = candidate.memory;
  if (auto mapped = container_->map_at(memory.data(), memory.size(), candidate.address); !mapped) {
    if (mapped.error().code == Errc::kState) return false;
    return std::unexpected(std::move(mapped).error());
  }
  const auto pages = physical_pages(container_->kernel(), memory.data(), memory.size());
  bool true_still = pages.has_value();
  for (std::size_t i = 0; true_still && i < pages->size(); ++i) {
    true_still = (*pages)[i] == candidate.address + i * kPage;
  }
  if (true_still) return true;
  if (!container_->unmap(candidate.address, memory.size(), Container::Reuse::kYes)) candidate.memory.leak();
  if (!pages) return std::unexpected(pages.error());
  return false;
}

Result<std::list<PhysicalPool::Chunk>::iterator> PhysicalPool::add_chunk(const device::DmaRequest& request) {
  const std::size_t granule = container_->granule();
  const std::size_t len = (request.len + granule - 1) / granule * granule;
  std::list<Memory> rejected;
  for (int tries = 0; tries <= kMostWindows; ++tries) {
    UPCI_TRY_ASSIGN(std::optional<Candidate> found, find_run(request, len, tries == 0, rejected));
    if (!found) continue;
    Candidate& candidate = *found;
    // The IOMMU's pages may be larger than the machine's.
    if (candidate.address % granule != 0 || candidate.memory.size() % granule != 0) {
      rejected.push_back(std::move(candidate.memory));
      continue;
    }
    UPCI_TRY_ASSIGN(const bool mapped, map(candidate));
    if (!mapped) {
      if (candidate.memory.data() != nullptr) rejected.push_back(std::move(candidate.memory));
      continue;
    }
    auto parts = IovaAllocator::create(
        {{.first = candidate.address, .last = candidate.address + candidate.memory.size() - 1}}, kLine);
    Chunk chunk{.memory = std::move(candidate.memory),
                .address = candidate.address,
                .node = request.node,
                .parts = std::move(*parts)};
    return chunks_.insert(chunks_.end(), std::move(chunk));
  }
  return fail(
      Errc::kUnavailable,
      fmt::format("no {} bytes of physically contiguous memory were found (highest address {:#x}, {} windows of "
                  "memory looked through)",
                  request.len, request.mask, kMostWindows + 1),
      "the device bypasses the IOMMU: reserve huge pages (echo 16 > /proc/sys/vm/nr_hugepages), use smaller buffers, "
      "or use a device that goes through the IOMMU (virtio: iommu_platform=on)");
}

bool PhysicalPool::release(Chunk& chunk) noexcept {
  if (container_->unmap(chunk.address, chunk.memory.size(), Container::Reuse::kYes)) return true;
  chunk.memory.leak();
  return false;
}

void PhysicalPool::give_back(std::uint64_t address) noexcept {
  const std::scoped_lock lock(mutex_);
  const auto chunk = std::ranges::find_if(chunks_, [&](const Chunk& each) {
    return address >= each.address && address - each.address < each.memory.size();
  });
  if (chunk == chunks_.end()) return;
  chunk->parts.free(address);
  if (!chunk->parts.nothing_taken()) return;
  release(*chunk);
  chunks_.erase(chunk);
}

}  // namespace upci::inline UPCI_VARIANT::vfio
