// SPDX-License-Identifier: Apache-2.0
// Which memory a device was given, and where this process has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

/// Thread-safe.
class DmaMap {
 public:
  void add(std::uint64_t iova, std::byte* va, std::size_t size) {
    const std::lock_guard lock(mutex_);
    parts_[iova] = {va, size};
  }
  void remove(std::uint64_t iova) {
    const std::lock_guard lock(mutex_);
    parts_.erase(iova);
  }
  /// Where `bytes` bytes at `iova` are, or nullptr when not all of them were mapped in one piece.
  std::byte* at(std::uint64_t iova, std::size_t bytes) const {
    const std::lock_guard lock(mutex_);
    auto part = parts_.upper_bound(iova);
    if (part == parts_.begin()) return nullptr;
    --part;
    const std::uint64_t offset = iova - part->first;
    if (offset > part->second.size || bytes > part->second.size - offset) return nullptr;
    return part->second.va + offset;
  }

 private:
  struct Part {
    std::byte* va = nullptr;
    std::size_t size = 0;
  };
  mutable platform::Mutex mutex_;
  std::map<std::uint64_t, Part> parts_;  // mutex_; by iova
};

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
