// SPDX-License-Identifier: Apache-2.0
// Private. A DmaSpace that tells the driver addresses at which nothing is mapped.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "device/dma.h"

namespace upci::inline UPCI_VARIANT::emulation::interposer {

/// How far from the mapping. Within the 39 bits of the smallest IOMMU, and further than any program maps.
inline constexpr std::uint64_t kOffMapping = std::uint64_t{1} << 37;

class FaultyDma final : public device::DmaSpace {
 public:
  explicit FaultyDma(device::DmaSpace& real) noexcept : real_(real) {}

  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override {
    UPCI_TRY(check(request));
    UPCI_TRY_ASSIGN(auto memory, real_.alloc(request));
    return displaced(std::move(memory));
  }
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte> memory,
                                                             const device::DmaRequest& request) override {
    UPCI_TRY(check(request));
    UPCI_TRY_ASSIGN(auto registered, real_.register_memory(memory, request));
    return displaced(std::move(registered));
  }

 private:
  class Displaced final : public device::DmaMemory {
   public:
    explicit Displaced(std::unique_ptr<device::DmaMemory> real) noexcept
        : DmaMemory(real->va(), real->iova() ^ kOffMapping, real->size()), real_(std::move(real)) {}

   private:
    const std::unique_ptr<device::DmaMemory> real_;
  };

  static std::unique_ptr<device::DmaMemory> displaced(std::unique_ptr<device::DmaMemory> real) {
    return std::make_unique<Displaced>(std::move(real));
  }

  /// A wrong address is harmless only where an IOMMU looks at it.
  static Result<void> check(const device::DmaRequest& request) {
    if (request.kind == device::DmaKind::kTranslated) return {};
    return fail(Errc::kUnavailable,
                "fault=dma-unmapped: this device bypasses the IOMMU, so that it would write to somebody else's memory",
                "use a device with ACCESS_PLATFORM (QEMU: iommu_platform=on)");
  }

  device::DmaSpace& real_;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::interposer
