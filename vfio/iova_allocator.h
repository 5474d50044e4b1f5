// SPDX-License-Identifier: Apache-2.0
// Private. Which addresses of a device's address space are taken. Pure logic: no device, no kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/error.h"

namespace upci::inline UPCI_VARIANT::vfio {

struct IovaRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;  // inclusive: a range may end with the address space
  friend bool operator==(const IovaRange&, const IovaRange&) = default;
};

/// Hands out parts of the usable ranges. Not thread-safe.
///
/// Takes the highest place that fits below 2^39 first (what a three-level IOMMU page table and most devices can form), and
/// above only when there is none: low addresses, where the machine's own memory lies, stay free for identity mappings.
class IovaAllocator {
 public:
  /// What is usable when the kernel does not say: below 2^39 without the window of x86's interrupt messages.
  static std::vector<IovaRange> usual_ranges();

  /// `granule` is a power of two: parts begin and end at its multiples. Address 0 is never handed out, since drivers and
  /// devices take it for none. Errors: kDevice: a range that ends before it begins, ranges that overlap, a granule that is
  /// no power of two, or nothing usable.
  static Result<IovaAllocator> create(std::vector<IovaRange> usable, std::uint64_t granule);

  std::uint64_t granule() const noexcept { return granule_; }
  /// `len` rounded up to granules; 0 when that does not fit 64 bits, or of 0.
  std::uint64_t round_up(std::uint64_t len) const noexcept;

  /// `len` is rounded up to granules. `align` is a power of two. No byte lies above `mask`. Nothing when there is no room.
  std::optional<std::uint64_t> alloc(std::uint64_t len, std::uint64_t align, std::uint64_t mask);
  /// Takes a place of the caller's choice; both are multiples of the granule. False when a part is taken or not usable.
  bool reserve(std::uint64_t start, std::uint64_t len);
  /// Gives back what alloc() or reserve() gave. False, and no change, when `start` is not the start of a taken part.
  bool free(std::uint64_t start);
  /// As free(), but no part of it is ever handed out again: the device may still use it.
  bool retire(std::uint64_t start);

  std::uint64_t free_bytes() const noexcept;
  std::uint64_t retired_bytes() const noexcept { return retired_; }
  bool nothing_taken() const noexcept { return taken_.empty(); }

 private:
  explicit IovaAllocator(std::uint64_t granule) noexcept : granule_(granule) {}
  std::optional<std::uint64_t> take_highest(std::uint64_t len, std::uint64_t align, std::uint64_t limit);
  void cut(std::map<std::uint64_t, std::uint64_t>::iterator hole, std::uint64_t start, std::uint64_t len);

  std::uint64_t granule_;
  std::map<std::uint64_t, std::uint64_t> free_;   // first -> last; no two of them touch
  std::map<std::uint64_t, std::uint64_t> taken_;  // start -> length
  std::uint64_t retired_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::vfio
