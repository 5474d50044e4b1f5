// SPDX-License-Identifier: Apache-2.0
// Memory that a device can reach.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/error.h"

namespace upci::inline UPCI_VARIANT::device {

enum class DmaKind : std::uint8_t {
  kTranslated,  // the device's addresses go through the IOMMU (or the platform has none and says so)
  kPhysical,    // the device bypasses the IOMMU: IOVA is the physical address (virtio without ACCESS_PLATFORM, legacy)
};

struct DmaRequest {
  std::size_t len = 0;
  std::size_t align = 4096;                // of the IOVA; a power of two
  std::uint64_t mask = ~std::uint64_t{0};  // the highest address that the device can form
  int node = -1;                           // where the memory should lie, or -1
  DmaKind kind = DmaKind::kTranslated;
};

/// One allocation. Its destructor gives the memory back to where it came from; it keeps that place alive.
class DmaMemory {
 public:
  virtual ~DmaMemory() = default;
  std::byte* va() const noexcept { return va_; }
  std::uint64_t iova() const noexcept { return iova_; }
  std::size_t size() const noexcept { return size_; }

 protected:
  DmaMemory(std::byte* va, std::uint64_t iova, std::size_t size) noexcept : va_(va), iova_(iova), size_(size) {}

 private:
  std::byte* va_;
  std::uint64_t iova_;
  std::size_t size_;
};

/// Given by the backend; thread-safe. What a driver uses is Device::dma_alloc (device/device.h), which wraps it.
class DmaSpace {
 public:
  virtual ~DmaSpace() = default;
  /// Zeroed memory. Errors: kInvalid (len 0, align no power of two), kUnavailable (nothing fits the mask), kSystem.
  virtual Result<std::unique_ptr<DmaMemory>> alloc(const DmaRequest& request) = 0;
  /// Makes foreign memory reachable, for as long as the result lives. Errors: kUnavailable where the backend cannot.
  virtual Result<std::unique_ptr<DmaMemory>> register_memory(std::span<std::byte> memory,
                                                             const DmaRequest& request) = 0;
};

}  // namespace upci::inline UPCI_VARIANT::device
