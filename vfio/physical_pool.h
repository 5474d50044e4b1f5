// SPDX-License-Identifier: Apache-2.0
// Private. Physically contiguous memory for devices that bypass the IOMMU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/platform.h"
#include "device/dma.h"
#include "vfio/container.h"
#include "vfio/iova_allocator.h"
#include "vfio/memory.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Keeps chunks of contiguous memory (a huge page where there is one, otherwise a run of pages that happen to lie side by
/// side), and hands out parts of them. Each chunk is mapped in the container once, at the IOVA that is its physical
/// address: that pins it, so that the address stays true, and it does no harm that the device never asks the IOMMU.
/// A chunk without parts is given back. Thread-safe. One for all functions of a container.
class PhysicalPool : public std::enable_shared_from_this<PhysicalPool> {
 public:
  explicit PhysicalPool(std::shared_ptr<Container> container) noexcept : container_(std::move(container)) {}
  ~PhysicalPool();

  /// A part of a chunk; its destructor gives it back.
  class Part {
   public:
    Part(std::shared_ptr<PhysicalPool> pool, std::byte* va, std::uint64_t address, std::size_t len) noexcept
        : pool_(std::move(pool)), va_(va), address_(address), len_(len) {}
    Part(Part&& other) noexcept = default;
    Part& operator=(Part&&) = delete;
    ~Part() {
      if (pool_) pool_->give_back(address_);
    }
    std::byte* va() const noexcept { return va_; }
    std::uint64_t address() const noexcept { return address_; }
    std::size_t size() const noexcept { return len_; }

   private:
    std::shared_ptr<PhysicalPool> pool_;
    std::byte* va_;
    std::uint64_t address_;
    std::size_t len_;
  };

  /// Zeroed. `request` has been checked. Errors: kUnavailable (no contiguous memory, none below the mask, no frame numbers),
  /// kSystem.
  Result<Part> alloc(const device::DmaRequest& request);

 private:
  struct Chunk {
    Memory memory;
    std::uint64_t address;  // physical, and the IOVA
    int node;               // as it was asked for
    IovaAllocator parts;
  };
  struct Candidate {
    Memory memory;
    std::uint64_t address = 0;
  };
  std::optional<Part> take(Chunk& chunk, const device::DmaRequest& request);
  Result<std::optional<Candidate>> find_run(const device::DmaRequest& request, std::size_t len, bool huge,
                                            std::list<Memory>& rejected);
  Result<bool> map(Candidate& candidate);
  Result<std::list<Chunk>::iterator> add_chunk(const device::DmaRequest& request);
  bool release(Chunk& chunk) noexcept;
  void give_back(std::uint64_t address) noexcept;

  const std::shared_ptr<Container> container_;
  platform::Mutex mutex_;
  std::list<Chunk> chunks_;  // mutex_
};

}  // namespace upci::inline UPCI_VARIANT::vfio
