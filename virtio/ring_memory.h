// SPDX-License-Identifier: Apache-2.0
// A ring together with the memory that it lives in: what a driver makes for each of its queues.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "device/device.h"
#include "virtio/packed_lint.h"
#include "virtio/packed_ring.h"
#include "virtio/queue.h"
#include "virtio/ring_lint.h"
#include "virtio/spec/features.h"
#include "virtio/split_ring.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// Entries of each indirect table where the driver says nothing else: longer chains take descriptors of the ring itself.
inline constexpr std::uint16_t kTableLength = 8;

template <class Ring>
struct RingTraits;
template <class Access>
struct RingTraits<SplitRing<Access>> {
  using Plain = PlainAccess;
  using Observer = RingObserver;
  using Lint = RingLint;
  static constexpr bool kPacked = false;
  static constexpr bool kObserved = std::is_same_v<Access, ObservedAccess>;
  static SplitLayout layout(std::uint16_t size, bool legacy) noexcept { return SplitLayout::of(size, legacy); }
  static Plain plain(std::byte* memory, std::uint16_t size, const SplitLayout& layout,
                     const IndirectTables& tables) noexcept {
    return {memory, size, layout, tables};
  }
};
template <class Access>
struct RingTraits<PackedRing<Access>> {
  using Plain = PackedPlainAccess;
  using Observer = PackedObserver;
  using Lint = PackedLint;
  static constexpr bool kPacked = true;
  static constexpr bool kObserved = std::is_same_v<Access, PackedObservedAccess>;
  static PackedLayout layout(std::uint16_t size, bool) noexcept { return PackedLayout::of(size); }
  static Plain plain(std::byte* memory, std::uint16_t, const PackedLayout& layout,
                     const IndirectTables& tables) noexcept {
    return {memory, layout, tables};
  }
};

/// A ring and its memory, which goes after it.
template <class Ring>
struct OwnedRing {
  device::DmaBuffer memory;
  Ring ring;
  QueueAddresses addresses;  // for Transport::setup_queue
};

/// What was negotiated of the rings of this device.
RingOptions ring_options(const Device& device) noexcept;

/// A ring in zeroed memory of its own, on the device's node. `size` comes from choose_queue_size(); `observer` is null where the
/// ring's access policy is the plain one, and outlives the ring; `table_length` is at most `size`. Errors: those of Device::dma_alloc.
template <class Ring>
Result<OwnedRing<Ring>> make_ring(const Device& device, std::uint16_t size,
                                  [[maybe_unused]] typename RingTraits<Ring>::Observer* observer,
                                  std::uint16_t table_length = kTableLength) {
  using Traits = RingTraits<Ring>;
  const RingOptions options = ring_options(device);
  const auto layout = Traits::layout(size, options.legacy);
  const std::size_t tables_at = (layout.bytes + 63) / 64 * 64;
  const std::uint16_t length = device.has(spec::feature::kIndirectDesc) ? table_length : std::uint16_t{0};
  UPCI_TRY_ASSIGN(device::DmaBuffer memory, alloc_ring(device, tables_at + IndirectTables::bytes(size, length)));
  const IndirectTables tables{.memory = memory.va() + tables_at, .iova = memory.iova() + tables_at, .length = length};
  const QueueAddresses addresses = ring_addresses(memory.iova(), layout);
  const auto plain = Traits::plain(memory.va(), size, layout, tables);
  if constexpr (Traits::kObserved) {
    return OwnedRing<Ring>{std::move(memory), Ring({plain, *observer}, size, options), addresses};
  } else {
    return OwnedRing<Ring>{std::move(memory), Ring(plain, size, options), addresses};
  }
}

}  // namespace upci::inline UPCI_VARIANT::virtio
