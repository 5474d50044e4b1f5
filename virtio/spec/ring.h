// SPDX-License-Identifier: Apache-2.0
// The split virtqueue: layouts, sizes and alignments. Section "Split Virtqueues". All fields are little-endian for
// modern devices and the machine's own order for legacy ones; upci runs on little-endian machines, where these are one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio::spec::ring {

/// "The maximum Queue Size value is 32768", a power of two.
inline constexpr std::uint32_t kMaxSize = 32768;
/// Whether a split queue may have this size. Section "Split Virtqueues".
constexpr bool is_valid_size(std::uint32_t size) noexcept {
  return size != 0 && size <= kMaxSize && (size & (size - 1)) == 0;
}

// Section "The Virtqueue Descriptor Table".
struct Descriptor {
  std::uint64_t addr;
  std::uint32_t len;
  std::uint16_t flags;
  std::uint16_t next;
};
inline constexpr std::uint16_t kDescNext = 1;
inline constexpr std::uint16_t kDescWrite = 2;  // the device writes the buffer (else it reads it)
inline constexpr std::uint16_t kDescIndirect = 4;

/// The same, as it lies in memory: two stores, and comparable without a detour through memory.
struct DescriptorWords {
  std::uint64_t addr = 0;
  std::uint64_t rest = 0;
  bool operator==(const DescriptorWords&) const = default;
};
constexpr DescriptorWords words_of(const Descriptor& value) noexcept {
  return {.addr = value.addr, .rest = value.len | std::uint64_t{value.flags} << 32U | std::uint64_t{value.next} << 48U};
}

// Sections "The Virtqueue Available Ring" and "The Virtqueue Used Ring".
struct UsedElement {
  std::uint32_t id;
  std::uint32_t len;
};
inline constexpr std::uint16_t kAvailNoInterrupt = 1;
inline constexpr std::uint16_t kUsedNoNotify = 1;

// Both rings begin alike.
inline constexpr std::size_t kFlagsOffset = 0;  // 16 bits
inline constexpr std::size_t kIndexOffset = 2;  // 16 bits
inline constexpr std::size_t kRingOffset = 4;
/// avail: where used_event lies (16 bits, with EVENT_IDX).
constexpr std::size_t used_event_offset(std::uint32_t size) noexcept { return kRingOffset + 2 * std::size_t{size}; }
/// used: where avail_event lies (16 bits, with EVENT_IDX).
constexpr std::size_t avail_event_offset(std::uint32_t size) noexcept {
  return kRingOffset + sizeof(UsedElement) * std::size_t{size};
}

// Alignment and bytes of the three parts. The event fields are always counted.
inline constexpr std::size_t kDescriptorAlign = 16;
inline constexpr std::size_t kAvailAlign = 2;
inline constexpr std::size_t kUsedAlign = 4;
constexpr std::size_t descriptors_bytes(std::uint32_t size) noexcept { return sizeof(Descriptor) * std::size_t{size}; }
constexpr std::size_t avail_bytes(std::uint32_t size) noexcept { return used_event_offset(size) + 2; }
constexpr std::size_t used_bytes(std::uint32_t size) noexcept { return avail_event_offset(size) + 2; }

/// The legacy layout: one block, the used ring on the next multiple of kLegacyAlign. Section "Legacy Interfaces: A Note
/// on Virtqueue Layout".
inline constexpr std::size_t kLegacyAlign = 4096;
constexpr std::size_t legacy_round_up(std::size_t bytes) noexcept {
  return (bytes + kLegacyAlign - 1) / kLegacyAlign * kLegacyAlign;
}
constexpr std::size_t legacy_avail_offset(std::uint32_t size) noexcept { return descriptors_bytes(size); }
constexpr std::size_t legacy_used_offset(std::uint32_t size) noexcept {
  return legacy_round_up(descriptors_bytes(size) + avail_bytes(size));
}
constexpr std::size_t legacy_bytes(std::uint32_t size) noexcept {
  return legacy_used_offset(size) + legacy_round_up(used_bytes(size));
}

/// Whether the other side asked to be told once its index has gone from `before` to `now`: with EVENT_IDX, event being
/// used_event or avail_event. Section "Used Buffer Notification Suppression".
constexpr bool event_reached(std::uint16_t event, std::uint16_t now, std::uint16_t before) noexcept {
  return static_cast<std::uint16_t>(now - event - 1) < static_cast<std::uint16_t>(now - before);
}

}  // namespace upci::inline UPCI_VARIANT::virtio::spec::ring
