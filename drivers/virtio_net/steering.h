// SPDX-License-Identifier: Apache-2.0
// How a card spreads what it receives over its queue pairs (RSS), and the hash that it tells of each frame (HASH_REPORT).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// What a card can do; zeros without RSS and HASH_REPORT. Section "Network Device / Device configuration layout".
struct SteeringLimits {
  std::uint8_t key_bytes = 0;       // the longest key
  std::uint16_t table_entries = 0;  // the longest indirection table; 0 without RSS
  std::uint32_t hash_types = 0;     // a mask of the kHash... bits below
};

// Which protocols are hashed, as a mask. Section "Hash calculation for incoming packets / Supported/enabled hash types".
inline constexpr std::uint32_t kHashIpv4 = 1U << 0;
inline constexpr std::uint32_t kHashTcpv4 = 1U << 1;
inline constexpr std::uint32_t kHashUdpv4 = 1U << 2;
inline constexpr std::uint32_t kHashIpv6 = 1U << 3;
inline constexpr std::uint32_t kHashTcpv6 = 1U << 4;
inline constexpr std::uint32_t kHashUdpv6 = 1U << 5;
inline constexpr std::uint32_t kHashIpv6Ex = 1U << 6;
inline constexpr std::uint32_t kHashTcpv6Ex = 1U << 7;
inline constexpr std::uint32_t kHashUdpv6Ex = 1U << 8;

/// What was hashed of a received frame. Section "Hash reporting for incoming packets".
enum class HashReport : std::uint16_t {
  kNone = 0,
  kIpv4 = 1,
  kTcpv4 = 2,
  kUdpv4 = 3,
  kIpv6 = 4,
  kTcpv6 = 5,
  kUdpv6 = 6,
  kIpv6Ex = 7,
  kTcpv6Ex = 8,
  kUdpv6Ex = 9,
};

/// The key that is used where none is given: the one of the vectors by which Toeplitz implementations are checked.
inline constexpr std::array<std::uint8_t, 40> kDefaultHashKey = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

/// How frames are spread: the entry of `table` that the low bits of a frame's hash name is its queue pair.
struct Rss {
  std::uint32_t hash_types = 0;      // of the card's SteeringLimits; frames of other protocols go to `unclassified`
  std::vector<std::uint16_t> table;  // queue pairs; as many as a power of two
  std::uint16_t unclassified = 0;    // a queue pair
  std::vector<std::uint8_t> key{kDefaultHashKey.begin(), kDefaultHashKey.end()};
};

/// Errors: kInvalid for what the card cannot take.
Result<void> check_rss(const Rss& rss, const SteeringLimits& limits, unsigned pairs);
Result<void> check_hash(std::uint32_t types, std::span<const std::uint8_t> key, const SteeringLimits& limits);

/// The data of VIRTIO_NET_CTRL_MQ_RSS_CONFIG and VIRTIO_NET_CTRL_MQ_HASH_CONFIG. Section "Control Virtqueue / Receive-side
/// scaling (RSS)" and "Hash calculation".
std::vector<std::byte> rss_command(const Rss& rss, unsigned pairs);
std::vector<std::byte> hash_command(std::uint32_t types, std::span<const std::uint8_t> key);

}  // namespace upci::inline UPCI_VARIANT::virtio_net
