// SPDX-License-Identifier: Apache-2.0
// IPv4 frames by hand: just enough UDP and TCP to talk to Linux's stack without one of our own.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

struct Endpoint {
  std::uint32_t address;
  std::uint16_t port;
};

/// Whether a checksum is whole, or only that of the pseudo header: what CSUM leaves to the device.
enum class Sum : std::uint8_t { kWhole, kPseudoHeader };

inline constexpr std::size_t kIpAt = 14, kTransportAt = 34, kUdpData = 42, kTcpData = 54;

inline sockaddr_in address_of(std::uint32_t address, std::uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = htonl(address);
  result.sin_port = htons(port);
  return result;
}

inline std::vector<std::byte> pattern(std::uint32_t seed, std::size_t length) {
  std::vector<std::byte> bytes(length);
  for (std::size_t i = 0; i < length; i++) bytes[i] = static_cast<std::byte>(seed * 37 + i * 7 + i / 256);
  return bytes;
}

inline std::uint16_t read16(std::span<const std::byte> frame, std::size_t at) {
  return static_cast<std::uint16_t>(static_cast<unsigned>(frame[at]) << 8 | static_cast<unsigned>(frame[at + 1]));
}
inline std::uint32_t read32(std::span<const std::byte> frame, std::size_t at) {
  return static_cast<std::uint32_t>(read16(frame, at)) << 16 | read16(frame, at + 2);
}
inline void write16(std::span<std::byte> frame, std::size_t at, std::uint16_t value) {
  frame[at] = static_cast<std::byte>(value >> 8);
  frame[at + 1] = static_cast<std::byte>(value);
}
inline void write32(std::span<std::byte> frame, std::size_t at, std::uint32_t value) {
  write16(frame, at, static_cast<std::uint16_t>(value >> 16));
  write16(frame, at + 2, static_cast<std::uint16_t>(value));
}

/// RFC 1071, before the complement.
inline std::uint32_t sum_of(std::span<const std::byte> bytes, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i < bytes.size(); i++) {
    sum += static_cast<std::uint32_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
    sum = (sum & 0xffffU) + (sum >> 16);
  }
  return sum;
}

inline std::uint32_t pseudo_header_sum(std::span<const std::byte> frame) {
  const std::size_t length = frame.size() - kTransportAt;
  std::uint32_t sum = sum_of(frame.subspan(kIpAt + 12, 8));
  sum += static_cast<std::uint32_t>(frame[kIpAt + 9]) + static_cast<std::uint32_t>(length);
  return (sum & 0xffffU) + (sum >> 16);
}

/// Ethernet and IP headers around what lies behind kTransportAt, and the checksums.
inline void finish_frame(std::vector<std::byte>& frame, Endpoint from, Endpoint to, std::uint8_t protocol,
                         std::size_t sum_at, Sum sum) {
  constexpr std::array<std::uint8_t, 14> kEthernet = {2, 0, 0, 0, 0, 1, 2, 0x11, 0x22, 0x33, 0x44, 0x55, 8, 0};
  std::memcpy(frame.data(), kEthernet.data(), kEthernet.size());
  frame[kIpAt] = std::byte{0x45};
  write16(frame, kIpAt + 2, static_cast<std::uint16_t>(frame.size() - kIpAt));
  frame[kIpAt + 8] = std::byte{64};
  frame[kIpAt + 9] = static_cast<std::byte>(protocol);
  write32(frame, kIpAt + 12, from.address);
  write32(frame, kIpAt + 16, to.address);
  write16(frame, kIpAt + 10, static_cast<std::uint16_t>(~sum_of(std::span(frame).subspan(kIpAt, 20))));
  const std::uint32_t pseudo = pseudo_header_sum(frame);
  if (sum == Sum::kPseudoHeader) {
    write16(frame, sum_at, static_cast<std::uint16_t>(pseudo));
  } else {
    write16(frame, sum_at, static_cast<std::uint16_t>(~sum_of(std::span(frame).subspan(kTransportAt), pseudo)));
  }
}

inline std::vector<std::byte> udp_frame(Endpoint from, Endpoint to, std::span<const std::byte> payload,
                                        Sum sum = Sum::kWhole) {
  std::vector<std::byte> frame(kUdpData + payload.size());
  write16(frame, kTransportAt, from.port);
  write16(frame, kTransportAt + 2, to.port);
  write16(frame, kTransportAt + 4, static_cast<std::uint16_t>(8 + payload.size()));
  std::ranges::copy(payload, frame.begin() + kUdpData);
  finish_frame(frame, from, to, IPPROTO_UDP, kTransportAt + 6, sum);
  return frame;
}

inline bool is_ip(std::span<const std::byte> frame, std::uint8_t protocol, std::size_t least) {
  return frame.size() >= least && read16(frame, 12) == 0x0800 && frame[kIpAt] == std::byte{0x45} &&
         frame[kIpAt + 9] == static_cast<std::byte>(protocol);
}
inline bool is_udp_to(std::span<const std::byte> frame, std::uint16_t port) {
  return is_ip(frame, IPPROTO_UDP, kUdpData) && read16(frame, kTransportAt + 2) == port;
}
inline std::vector<std::byte> udp_payload(std::span<const std::byte> frame) {
  const std::size_t length = read16(frame, kTransportAt + 4) - 8U;
  const auto data = frame.subspan(kUdpData, std::min(length, frame.size() - kUdpData));
  return {data.begin(), data.end()};
}
/// Over the datagram without what pads a short frame.
inline bool udp_sum_is_right(std::span<const std::byte> frame) {
  const auto whole = frame.first(kTransportAt + read16(frame, kTransportAt + 4));
  return sum_of(whole.subspan(kTransportAt), pseudo_header_sum(whole)) == 0xffff;
}

inline bool is_tcp_to(std::span<const std::byte> frame, std::uint16_t port) {
  return is_ip(frame, IPPROTO_TCP, kTcpData) && read16(frame, kTransportAt + 2) == port;
}
inline std::vector<std::byte> tcp_payload(std::span<const std::byte> frame) {
  const std::size_t end = std::min<std::size_t>(kIpAt + read16(frame, kIpAt + 2), frame.size());
  const std::size_t begin = kTransportAt + 4 * (static_cast<std::size_t>(frame[kTransportAt + 12]) >> 4);
  if (begin >= end) return {};
  return {frame.begin() + static_cast<std::ptrdiff_t>(begin), frame.begin() + static_cast<std::ptrdiff_t>(end)};
}

/// One end of one connection, which opens it.
class TcpPeer {
 public:
  TcpPeer(Endpoint from, Endpoint to) : from_(from), to_(to) {}

  std::vector<std::byte> syn() {
    auto frame = make(kSyn, {}, Sum::kWhole);
    sequence_++;
    return frame;
  }
  /// Acknowledges what this frame brings.
  std::vector<std::byte> acknowledge(std::span<const std::byte> frame) {
    const auto flags = static_cast<std::uint8_t>(frame[kTransportAt + 13]);
    const auto length = static_cast<std::uint32_t>(tcp_payload(frame).size() + ((flags & kSyn) != 0 ? 1 : 0));
    if (!started_ || is_next(frame)) expected_ = read32(frame, kTransportAt + 4) + length;
    started_ = true;
    return make(kAck, {}, Sum::kWhole);
  }
  std::vector<std::byte> segment(std::span<const std::byte> data, Sum sum) {
    auto frame = make(kAck | kPush, data, sum);
    sequence_ += static_cast<std::uint32_t>(data.size());
    return frame;
  }
  bool is_next(std::span<const std::byte> frame) const { return read32(frame, kTransportAt + 4) == expected_; }

 private:
  static constexpr std::uint8_t kSyn = 2, kPush = 8, kAck = 16;

  std::vector<std::byte> make(std::uint8_t flags, std::span<const std::byte> data, Sum sum) const {
    std::vector<std::byte> frame(kTcpData + data.size());
    write16(frame, kTransportAt, from_.port);
    write16(frame, kTransportAt + 2, to_.port);
    write32(frame, kTransportAt + 4, sequence_);
    if (started_) write32(frame, kTransportAt + 8, expected_);
    frame[kTransportAt + 12] = std::byte{0x50};
    frame[kTransportAt + 13] = static_cast<std::byte>(flags);
    write16(frame, kTransportAt + 14, 0xffff);  // the window
    std::ranges::copy(data, frame.begin() + kTcpData);
    finish_frame(frame, from_, to_, IPPROTO_TCP, kTransportAt + 16, sum);
    return frame;
  }

  Endpoint from_;
  Endpoint to_;
  std::uint32_t sequence_ = 1000;
  std::uint32_t expected_ = 0;
  bool started_ = false;
};

}  // namespace upci::inline UPCI_VARIANT::driver_tests
