// SPDX-License-Identifier: Apache-2.0
// The packed virtqueue. Section "Packed Virtqueues". Little-endian, and for modern devices only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio::spec::packed {

/// "The Queue Size value does not have to be a power of 2", at most 2^15.
inline constexpr std::uint32_t kMaxSize = 32768;
constexpr bool is_valid_size(std::uint32_t size) noexcept { return size != 0 && size <= kMaxSize; }

// Section "Structure Size and Alignment", "The Descriptor Format".
struct Descriptor {
  std::uint64_t addr;
  std::uint32_t len;
  std::uint16_t id;
  std::uint16_t flags;
};
static_assert(sizeof(Descriptor) == 16);
/// The same, as it lies in memory: two stores.
struct DescriptorWords {
  std::uint64_t addr = 0;
  std::uint64_t rest = 0;
};
constexpr DescriptorWords words_of(const Descriptor& value) noexcept {
  return {.addr = value.addr, .rest = value.len | std::uint64_t{value.id} << 32U | std::uint64_t{value.flags} << 48U};
}
inline constexpr std::size_t kDescriptorAlign = 16;
inline constexpr std::size_t kLengthOffset = 8;
inline constexpr std::size_t kIdOffset = 12;
inline constexpr std::size_t kDescFlagsOffset = 14;
constexpr std::size_t descriptors_bytes(std::uint32_t size) noexcept { return sizeof(Descriptor) * std::size_t{size}; }
inline constexpr std::uint16_t kDescNext = 1;
inline constexpr std::uint16_t kDescWrite = 2;
inline constexpr std::uint16_t kDescIndirect = 4;
inline constexpr std::uint16_t kDescAvail = 1U << 7;
inline constexpr std::uint16_t kDescUsed = 1U << 15;

/// The marks of a descriptor that the driver makes available while its wrap counter is `wrap`. Section "Driver and Device Ring
/// Wrap Counters".
constexpr std::uint16_t available_marks(bool wrap) noexcept { return wrap ? kDescAvail : kDescUsed; }
/// Whether the driver has made a descriptor available, for a device that has come round as often as `wrap` says.
constexpr bool is_available(std::uint16_t flags, bool wrap) noexcept {
  return (flags & (kDescAvail | kDescUsed)) == available_marks(wrap);
}
/// The marks of a descriptor that the device has used, whose used wrap counter is `wrap`.
constexpr std::uint16_t used_marks(bool wrap) noexcept { return wrap ? kDescAvail | kDescUsed : 0; }
/// Whether the device has marked a descriptor as used, for a driver whose used wrap counter is `wrap`.
constexpr bool is_used(std::uint16_t flags, bool wrap) noexcept {
  const bool avail = (flags & kDescAvail) != 0;
  const bool used = (flags & kDescUsed) != 0;
  return avail == used && used == wrap;
}

/// Section "Event Suppression Structure Format": 15 bits of offset and the wrap counter, then the flags.
struct EventSuppression {
  std::uint16_t offset_wrap;
  std::uint16_t flags;
};
static_assert(sizeof(EventSuppression) == 4);
inline constexpr std::size_t kEventAlign = 4;
inline constexpr std::size_t kEventFlagsOffset = 2;
inline constexpr std::uint16_t kEventEnable = 0;
inline constexpr std::uint16_t kEventDisable = 1;
inline constexpr std::uint16_t kEventDescriptor = 2;  // at a descriptor; with EVENT_IDX only
inline constexpr std::uint16_t kEventFlagsMask = 3;
constexpr std::uint16_t offset_wrap(std::uint16_t offset, bool wrap) noexcept {
  return static_cast<std::uint16_t>(offset | (wrap ? 1U << 15 : 0U));
}

/// How far an event's descriptor lies ahead of descriptor `begin` on the lap of `wrap`, within two laps: size or more lies behind.
constexpr std::uint32_t ahead_of(std::uint16_t begin, bool wrap, const EventSuppression& event,
                                 std::uint32_t size) noexcept {
  const std::uint32_t at = (event.offset_wrap & 0x7fffU) + ((event.offset_wrap >> 15) != 0 ? 0U : size);
  const std::uint32_t from = begin + (wrap ? 0U : size);
  return (at + 2U * size - from) % (2U * size);
}

/// Whether the device asked to be told of `count` descriptors that are published from `begin` on, where the driver's wrap counter is
/// `wrap`: at one of them, or at one that was published before. Section "Event Suppression Structure Format".
constexpr bool event_reached(const EventSuppression& event, std::uint16_t begin, bool wrap, std::uint16_t count,
                             std::uint16_t size) noexcept {
  const std::uint32_t ahead = ahead_of(begin, wrap, event, size);
  return ahead < count || ahead >= size;
}

}  // namespace upci::inline UPCI_VARIANT::virtio::spec::packed
