// SPDX-License-Identifier: Apache-2.0
// Private. One function's DMA memory.
#pragma once

#include <memory>
#include <set>

#include "base/platform.h"
#include "device/dma.h"
#include "vfio/container.h"
#include "vfio/physical_pool.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Thread-safe. What it hands out keeps the container alive, and may outlive the function.
///
/// kTranslated: memory on the node, mapped at an IOVA of the container's choice. kPhysical: see PhysicalPool.
/// Memory is freed only after the kernel has confirmed that the device cannot reach it any more; otherwise it is kept for
/// the life of the process, and its IOVA is never used again.
class DmaSpace final : public device::DmaSpace {
 public:
  DmaSpace(std::shared_ptr<Container> container, std::shared_ptr<PhysicalPool> pool);

  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override;
  /// `memory` begins and ends at pages. Errors: kInvalid (it does not), kUnavailable (the device bypasses the IOMMU; no
  /// room), kSystem.
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte> memory,
                                                             const device::DmaRequest& request) override;

  /// Takes all of this function's memory away from it in the IOMMU; the IOVAs are never used again, the memory stays valid
  /// for this process. True when that proves that the function can write to none of it: it has no kPhysical memory, nobody
  /// else has mappings in the container, and the kernel has confirmed each.
  bool withdraw_all() noexcept;
  /// No kPhysical memory is in use.
  bool all_translated() const noexcept;

 private:
  struct Ledger;
  class Mapping;
  class Translated;
  class Physical;
  const std::shared_ptr<Container> container_;
  const std::shared_ptr<PhysicalPool> pool_;
  const std::shared_ptr<Ledger> ledger_;
};

}  // namespace upci::inline UPCI_VARIANT::vfio
