// SPDX-License-Identifier: Apache-2.0
#include "vfio/dma_space.h"

#include <fmt/format.h>

#include <bit>
#include <mutex>

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

Result<void> check(const device::DmaRequest& request) {
  if (request.len == 0)
    return fail(Errc::kInvalid, "DMA memory of length 0 was asked for", "ask for at least one byte");
  if (!std::has_single_bit(request.align)) {
    return fail(Errc::kInvalid, fmt::format("the DMA alignment {} is not a power of two", request.align),
                "use a power of two");
  }
  // Larger than any machine's memory; what rounds lengths up can do so without a thought from here on.
  if (request.len > std::size_t{1} << 50 || request.align > std::size_t{1} << 50) {
    return fail(Errc::kUnavailable, fmt::format("{} bytes of DMA memory cannot be had", request.len), "ask for less");
  }
  return {};
}

}  // namespace

/// What the function has; outlives it while some of that lives.
struct DmaSpace::Ledger {
  mutable platform::Mutex mutex;
  std::set<Mapping*> mappings;  // mutex
  std::size_t physical = 0;     // mutex; pieces of kPhysical memory
};

/// A range of the container that is mapped for this function.
class DmaSpace::Mapping {
 public:
  Mapping(std::shared_ptr<Container> container, std::shared_ptr<Ledger> ledger, std::uint64_t iova, std::uint64_t size)
      : container_(std::move(container)), ledger_(std::move(ledger)), iova_(iova), size_(size) {
    const std::scoped_lock lock(ledger_->mutex);
    ledger_->mappings.insert(this);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  /// Once, at the end. False when the device may still reach the memory.
  bool end() noexcept {
    const std::scoped_lock lock(ledger_->mutex);
    ledger_->mappings.erase(this);
    return !mapped_ || container_->unmap(iova_, size_, Container::Reuse::kYes);
  }
  /// The caller holds the ledger's mutex.
  bool withdraw() noexcept {
    if (mapped_ && container_->unmap(iova_, size_, Container::Reuse::kNever)) mapped_ = false;
    return !mapped_;
  }
  /// The caller holds the ledger's mutex.
  bool mapped() const noexcept { return mapped_; }

 private:
  const std::shared_ptr<Container> container_;
  const std::shared_ptr<Ledger> ledger_;
  const std::uint64_t iova_;
  const std::uint64_t size_;
  bool mapped_ = true;  // ledger_->mutex
};

class DmaSpace::Translated final : public device::DmaMemory {
 public:
  /// `memory` is empty for foreign memory.
  Translated(std::byte* va, std::uint64_t iova, std::size_t len, std::uint64_t mapped, Memory memory,
             std::shared_ptr<Container> container, std::shared_ptr<Ledger> ledger)
      : DmaMemory(va, iova, len),
        memory_(std::move(memory)),
        mapping_(std::move(container), std::move(ledger), iova, mapped) {}
  ~Translated() override {
    if (!mapping_.end()) memory_.leak();
  }

 private:
  Memory memory_;
  Mapping mapping_;
};

class DmaSpace::Physical final : public device::DmaMemory {
 public:
  Physical(PhysicalPool::Part part, std::shared_ptr<Ledger> ledger)
      : DmaMemory(part.va(), part.address(), part.size()), ledger_(std::move(ledger)), part_(std::move(part)) {
    const std::scoped_lock lock(ledger_->mutex);
    ++ledger_->physical;
  }
  ~Physical() override {
    const std::scoped_lock lock(ledger_->mutex);
    --ledger_->physical;
  }

 private:
  const std::shared_ptr<Ledger> ledger_;
  const PhysicalPool::Part part_;
};

DmaSpace::DmaSpace(std::shared_ptr<Container> container, std::shared_ptr<PhysicalPool> pool)
    : container_(std::move(container)), pool_(std::move(pool)), ledger_(std::make_shared<Ledger>()) {}

Result<std::unique_ptr<device::DmaMemory>> DmaSpace::alloc(const device::DmaRequest& request) {
  UPCI_TRY(check(request));
  if (request.kind == device::DmaKind::kPhysical) {
    UPCI_TRY_ASSIGN(PhysicalPool::Part part, pool_->alloc(request));
    return std::make_unique<Physical>(std::move(part), ledger_);
  }
  const std::size_t granule = container_->granule();
  const std::size_t len = (request.len + granule - 1) / granule * granule;
  UPCI_TRY_ASSIGN(Memory memory, Memory::allocate(container_->kernel(), len, request.node, Memory::Pages::kAny));
  const std::uint64_t size = memory.size();
  UPCI_TRY_ASSIGN(const std::uint64_t iova, container_->map(memory.data(), size, request.align, request.mask));
  std::byte* const va = memory.data();
  return std::make_unique<Translated>(va, iova, request.len, size, std::move(memory), container_, ledger_);
}

Result<std::unique_ptr<device::DmaMemory>> DmaSpace::register_memory(std::span<std::byte> memory,
                                                                     const device::DmaRequest& request) {
  if (request.kind == device::DmaKind::kPhysical) {
    return fail(Errc::kUnavailable, "memory of the caller's own has no physical address that stays",
                "the device bypasses the IOMMU: allocate its memory from it");
  }
  const std::uint64_t granule = container_->granule();
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  if (memory.empty() || address % granule != 0 || memory.size() % granule != 0) {
    return fail(Errc::kInvalid,
                fmt::format("memory at {:#x} of {} bytes cannot be registered: the IOMMU maps whole pages of {} bytes",
                            address, memory.size(), granule),
                "align it, and its length, to pages");
  }
  device::DmaRequest checked = request;
  checked.len = memory.size();
  UPCI_TRY(check(checked));
  UPCI_TRY_ASSIGN(const std::uint64_t iova, container_->map(memory.data(), memory.size(), request.align, request.mask));
  return std::make_unique<Translated>(memory.data(), iova, memory.size(), memory.size(), Memory(), container_, ledger_);
}

bool DmaSpace::withdraw_all() noexcept {
  const std::scoped_lock lock(ledger_->mutex);
  if (ledger_->physical != 0) return false;
  if (container_->is_detached()) return true;
  std::size_t ours = 0;
  for (const Mapping* mapping : ledger_->mappings) ours += mapping->mapped() ? 1U : 0U;
  if (ours != container_->mappings()) return false;
  bool all = true;
  for (Mapping* mapping : ledger_->mappings) all = mapping->withdraw() && all;
  return all;
}

bool DmaSpace::all_translated() const noexcept {
  const std::scoped_lock lock(ledger_->mutex);
  return ledger_->physical == 0;
}

}  // namespace upci::inline UPCI_VARIANT::vfio
