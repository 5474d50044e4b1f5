// SPDX-License-Identifier: Apache-2.0
// The frames of `upci net test`: every byte follows from the frame's sequence number, so that every byte can be checked.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "drivers/virtio_net/nic.h"

namespace upci::tool {

/// Without the checksum that the card adds. Below 60 bytes cards and wires may pad a frame, which would change it.
inline constexpr std::size_t kSmallestFrame = 60;
inline constexpr std::size_t kLargestFrame = 9014;  // at an MTU of 9000
inline constexpr std::size_t kEthernetHeader = 14;

/// Lengths of frames in bytes, both included. A value.
struct FrameSizes {
  std::size_t shortest = 64;
  std::size_t longest = 64;
};

/// All frames of one direction: addresses, an ethertype for local experiments (IEEE 802: 0x88B5), the sequence number, the
/// length, the direction, and a pattern. A value.
class FrameFormat {
 public:
  using Mac = virtio_net::Nic::Mac;
  FrameFormat(Mac from, Mac to, std::uint8_t direction, FrameSizes sizes) noexcept
      : from_(from), to_(to), direction_(direction), sizes_(sizes) {}

  std::size_t longest() const noexcept { return sizes_.longest; }
  /// How long the frame with this number is: it follows from the number, the lengths are spread evenly.
  std::size_t size_of(std::uint64_t sequence) const noexcept;
  /// Fills the first size_of(sequence) bytes of `frame`, which must have room for them.
  void write(std::span<std::byte> frame, std::uint64_t sequence) const noexcept;
  /// The sequence number of a frame that is right in every byte; nothing for any other.
  std::optional<std::uint64_t> read(std::span<const std::byte> frame) const noexcept;

 private:
  Mac from_;
  Mac to_;
  std::uint8_t direction_;
  FrameSizes sizes_;
};

}  // namespace upci::tool
