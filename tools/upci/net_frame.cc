// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/net_frame.h"

#include <algorithm>
#include <cstring>

namespace upci::tool {
namespace {

constexpr std::array<std::byte, 2> kEthertype = {std::byte{0x88}, std::byte{0xb5}};
constexpr std::size_t kSequenceAt = kEthernetHeader;
constexpr std::size_t kLengthAt = kSequenceAt + sizeof(std::uint64_t);
constexpr std::size_t kDirectionAt = kLengthAt + sizeof(std::uint16_t);
constexpr std::size_t kPatternAt = kDirectionAt + 1;
static_assert(kPatternAt < kSmallestFrame);

/// The splitmix64 generator: neighbouring sequence numbers give wholly different bytes.
constexpr std::uint64_t next_random(std::uint64_t& state) noexcept {
  state += 0x9e3779b97f4a7c15U;
  std::uint64_t z = state;
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

}  // namespace

std::size_t FrameFormat::size_of(std::uint64_t sequence) const noexcept {
  std::uint64_t state = sequence;
  return sizes_.shortest + next_random(state) % (sizes_.longest - sizes_.shortest + 1);
}

void FrameFormat::write(std::span<std::byte> frame, std::uint64_t sequence) const noexcept {
  const std::size_t size = size_of(sequence);
  std::byte* const out = frame.data();
  std::memcpy(out, to_.data(), to_.size());
  std::memcpy(out + to_.size(), from_.data(), from_.size());
  std::memcpy(out + 2 * to_.size(), kEthertype.data(), kEthertype.size());
  const auto length = static_cast<std::uint16_t>(size);
  std::memcpy(out + kSequenceAt, &sequence, sizeof sequence);
  std::memcpy(out + kLengthAt, &length, sizeof length);
  out[kDirectionAt] = std::byte{direction_};
  std::uint64_t state = sequence * 256 + direction_;
  for (std::size_t at = kPatternAt; at < size; at += sizeof(std::uint64_t)) {
    const std::uint64_t pattern = next_random(state);
    std::memcpy(out + at, &pattern, std::min(sizeof pattern, size - at));
  }
}

std::optional<std::uint64_t> FrameFormat::read(std::span<const std::byte> frame) const noexcept {
  if (frame.size() < kSmallestFrame) return std::nullopt;
  std::uint64_t sequence = 0;
  std::memcpy(&sequence, frame.data() + kSequenceAt, sizeof sequence);
  if (frame.size() != size_of(sequence)) return std::nullopt;
  std::array<std::byte, kLargestFrame> expected;
  write(expected, sequence);
  if (std::memcmp(expected.data(), frame.data(), frame.size()) != 0) return std::nullopt;
  return sequence;
}

}  // namespace upci::tool
