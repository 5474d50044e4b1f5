// SPDX-License-Identifier: Apache-2.0
// The memory that an emulated device can reach, by addresses that differ from the process's own, so that a driver that
// gives the device a pointer instead of an IOVA is caught. Translated and physical addresses lie in different ranges
// for the same reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/platform.h"
#include "device/dma.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// All memory of one device, by IOVA. Thread-safe: allocation is the driver's, lookup the device's.
class DmaTable {
 public:
  /// Takes a range of IOVAs for memory at `va`. Errors: kUnavailable when nothing fits the mask.
  Result<std::uint64_t> insert(std::byte* va, const device::DmaRequest& request, std::uint64_t offset_in_page);
  /// Waits for a device access that is under way; none reaches the memory afterwards.
  void remove(std::uint64_t iova) noexcept;

 private:
  friend class DmaAccess;
  struct Region {
    std::byte* va = nullptr;
    std::uint64_t len = 0;
  };
  const Region* find(std::uint64_t iova, std::uint64_t len, std::uint64_t& offset) const noexcept;
  bool place(std::uint64_t from, std::uint64_t to, const device::DmaRequest& request, std::uint64_t offset_in_page,
             std::uint64_t& iova) const;

  platform::Mutex mutex_;
  std::map<std::uint64_t, Region> regions_;      // mutex_
  std::map<std::uint64_t, std::uint64_t> next_;  // mutex_; per range, by its start: where to look for room first
};

/// The device's hold on the memory: while it lives no memory is taken away. Keep it short; allocations wait for it.
class DmaAccess {
 public:
  DmaAccess(DmaTable& table, device::DmaKind kind) : table_(table), kind_(kind), lock_(table.mutex_) {}

  /// The memory at an IOVA, or nullptr when the whole range is not the device's, or its address is not aligned.
  std::byte* at(std::uint64_t iova, std::uint64_t len, std::size_t align = 1) const noexcept;
  /// Why at() refused, for a message.
  std::string why_not(std::uint64_t iova, std::uint64_t len) const;

 private:
  DmaTable& table_;
  const device::DmaKind kind_;
  const std::lock_guard<platform::Mutex> lock_;
};

/// The driver's side. Memory outlives the device if the driver keeps it longer.
class EmulatedDmaSpace final : public device::DmaSpace {
 public:
  EmulatedDmaSpace() : table_(std::make_shared<DmaTable>()) {}
  DmaTable& table() const noexcept { return *table_; }
  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override;
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte> memory,
                                                             const device::DmaRequest& request) override;

 private:
  const std::shared_ptr<DmaTable> table_;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
