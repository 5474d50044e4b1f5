// SPDX-License-Identifier: Apache-2.0
// Private. A chain as bytes: what the device reads of it, wherever the segments' borders are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "virtio/lint/chain_lint.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

/// A view. Integers are little-endian, as this machine is.
class ChainLint::Look {
 public:
  Look(std::span<const Segment> chain, const DmaMap& memory) : chain_(chain), memory_(memory) {
    for (const Segment& segment : chain) (segment.device_writes ? writable_ : readable_) += segment.len;
  }
  std::span<const Segment> segments() const noexcept { return chain_; }
  std::uint64_t readable() const noexcept { return readable_; }
  std::uint64_t writable() const noexcept { return writable_; }

  /// The integer at `offset` of what the device reads; nothing when it is not there, or in memory that was not mapped for it.
  template <class T>
  std::optional<T> at(std::uint64_t offset) const {
    T value{};
    std::size_t done = 0;
    for (const Segment& segment : chain_) {
      if (segment.device_writes || done == sizeof(T)) break;
      if (offset >= segment.len) {
        offset -= segment.len;
        continue;
      }
      const std::size_t part = std::min<std::size_t>(sizeof(T) - done, segment.len - offset);
      const std::byte* const from = memory_.at(segment.iova + offset, part);
      if (from == nullptr) return std::nullopt;
      std::memcpy(reinterpret_cast<std::byte*>(&value) + done, from, part);
      done += part;
      offset = 0;
    }
    if (done != sizeof(T)) return std::nullopt;
    return value;
  }

 private:
  const std::span<const Segment> chain_;
  const DmaMap& memory_;
  std::uint64_t readable_ = 0;
  std::uint64_t writable_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
