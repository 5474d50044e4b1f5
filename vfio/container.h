// SPDX-License-Identifier: Apache-2.0
// Private. A VFIO container with its type 1 IOMMU: one address space for the functions of a group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/platform.h"
#include "vfio/iova_allocator.h"
#include "vfio/kernel.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Thread-safe. Closed when the last one who holds it lets go: group, functions and every piece of DMA memory do.
class Container {
 public:
  /// Opens /dev/vfio/vfio and looks whether it is a VFIO that this code knows. Errors: kUnavailable, kSystem.
  static Result<std::shared_ptr<Container>> create(std::shared_ptr<Kernel> kernel);

  int fd() const noexcept { return fd_.get(); }
  const std::shared_ptr<Kernel>& kernel() const noexcept { return kernel_; }

  /// After a group has joined: chooses type 1 and learns which addresses are usable. `on` names the group in errors.
  /// Errors: kUnavailable (no interrupt remapping, ...), kSystem, kDevice.
  Result<void> set_iommu(const std::string& on);

  /// What sizes and addresses of mappings are multiples of. After set_iommu().
  std::uint64_t granule() const noexcept { return granule_; }

  /// Makes [va, va + size) reachable by the device at an address of the container's choice; returns that. `va` and `size`
  /// are multiples of granule(). Errors: kUnavailable (no room under the mask, too many mappings), kSystem.
  Result<std::uint64_t> map(std::byte* va, std::uint64_t size, std::uint64_t align, std::uint64_t mask);
  /// The same at the address `iova`. Errors: kState: a part of that place is taken, or not usable; as map().
  Result<void> map_at(std::byte* va, std::uint64_t size, std::uint64_t iova);

  enum class Reuse : std::uint8_t { kYes, kNever };
  /// Takes the device's access away. False when the kernel does not confirm it: then the memory must stay as it is, and
  /// the address is never used again. `reuse` says whether it is used again otherwise.
  bool unmap(std::uint64_t iova, std::uint64_t size, Reuse reuse) noexcept;

  /// The last group has left: the kernel has dropped all mappings, and no new ones can be made.
  void detached() noexcept;
  bool is_detached() const noexcept;
  std::size_t mappings() const noexcept;
  std::uint64_t retired_bytes() const noexcept;

 private:
  Container(std::shared_ptr<Kernel> kernel, KernelFd fd, int type) noexcept
      : kernel_(std::move(kernel)), fd_(std::move(fd)), type_(type) {}
  Result<void> map_locked(std::byte* va, std::uint64_t size, std::uint64_t iova);

  const std::shared_ptr<Kernel> kernel_;
  const KernelFd fd_;
  const int type_;             // VFIO_TYPE1v2_IOMMU or VFIO_TYPE1_IOMMU
  std::uint64_t granule_ = 0;  // const after set_iommu()
  mutable platform::Mutex mutex_;
  std::optional<IovaAllocator> iovas_;  // mutex_
  std::size_t mappings_ = 0;            // mutex_
  bool detached_ = false;               // mutex_
};

}  // namespace upci::inline UPCI_VARIANT::vfio
