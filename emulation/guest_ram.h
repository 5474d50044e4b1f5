// SPDX-License-Identifier: Apache-2.0
// The guest's RAM: a memfd that this process and another one map, QEMU or a vhost-user back end. A device's address for it is
// its offset in the memfd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

#include "base/error.h"
#include "base/platform.h"
#include "base/unique_fd.h"
#include "device/dma.h"

namespace upci::inline UPCI_VARIANT::emulation {

/// Hands out parts of the guest's RAM. Thread-safe. Each part keeps the mapping alive, also after the other process has ended.
///
/// DmaRequest::kind makes no difference (the machine has no IOMMU: every address is a physical one), nor does node (the
/// RAM is one piece).
class GuestRam final : public device::DmaSpace, public std::enable_shared_from_this<GuestRam> {
 public:
  /// Below the first MiB a PC has holes and firmware areas.
  static constexpr std::uint64_t kFirstUsable = 0x100000;
  /// From there on q35 places RAM elsewhere than at its offset in the memfd.
  static constexpr std::uint64_t kLargest = std::uint64_t{2} << 30;

  /// Errors: kInvalid (not a whole number of MiB, or not above kFirstUsable, or above kLargest), kSystem.
  static Result<std::shared_ptr<GuestRam>> create(std::size_t size);
  ~GuestRam() override;

  int fd() const noexcept { return memfd_.get(); }
  std::size_t size() const noexcept { return size_; }

  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override;
  /// Errors: always kUnavailable. The other process can reach nothing else.
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte> memory,
                                                             const device::DmaRequest& request) override;

 private:
  class Part;
  GuestRam(UniqueFd memfd, std::byte* base, std::size_t size);
  void give_back(std::uint64_t start, std::uint64_t len);

  const UniqueFd memfd_;
  std::byte* const base_;
  const std::size_t size_;
  platform::Mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> free_;  // mutex_; start -> length, no two of them touch
};

}  // namespace upci::inline UPCI_VARIANT::emulation
