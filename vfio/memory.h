// SPDX-License-Identifier: Apache-2.0
// Private. Memory of this process that a device may be given: on a node, in huge pages where there are some.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "vfio/kernel.h"

namespace upci::inline UPCI_VARIANT::vfio {

inline constexpr std::size_t kPage = 4096;
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// An anonymous mapping. Its destructor unmaps it.
class Memory {
 public:
  enum class Pages : std::uint8_t {
    kAny,          // huge ones for kHugePage and more where there are some, otherwise normal ones
    kHuge,         // of the machine's pool of 2 MiB pages, or an error
    kTransparent,  // normal ones, aligned and advised so that the kernel may make huge ones of them
  };

  /// Zeroed, present, not inherited by a forked child. `len` is a multiple of kPage, and is rounded up to whole huge pages
  /// where these are used. `node` is where it lies, or -1; a node that has no room left is only a preference, which is
  /// noted. Errors: kSystem, kUnavailable.
  static Result<Memory> allocate(const std::shared_ptr<Kernel>& kernel, std::size_t len, int node, Pages pages);

  Memory() noexcept = default;
  Memory(Memory&& other) noexcept
      : kernel_(std::move(other.kernel_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Memory& operator=(Memory&& other) noexcept;
  ~Memory() { unmap(); }

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  /// Gives back all but [offset, offset + len); both are multiples of kPage, and the memory is of normal pages.
  void keep_only(std::size_t offset, std::size_t len) noexcept;
  /// The memory stays for the life of the process: the device may still reach it.
  void leak() noexcept;
  /// Keeps the kernel from moving or swapping it out. Errors: kSystem, kUnavailable.
  Result<void> lock();

 private:
  Memory(std::shared_ptr<Kernel> kernel, std::byte* data, std::size_t size) noexcept
      : kernel_(std::move(kernel)), data_(data), size_(size) {}
  static Result<Memory> map(const std::shared_ptr<Kernel>& kernel, std::size_t len, int flags);
  void place(int node, bool huge);
  Result<void> populate(bool huge);
  void unmap() noexcept;

  std::shared_ptr<Kernel> kernel_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The physical address of each page of [at, at + len). Errors: kUnavailable: the kernel does not tell (CAP_SYS_ADMIN), or
/// a page is not present; kSystem.
Result<std::vector<std::uint64_t>> physical_pages(const std::shared_ptr<Kernel>& kernel, const std::byte* at,
                                                  std::size_t len);

}  // namespace upci::inline UPCI_VARIANT::vfio
