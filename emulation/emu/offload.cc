// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/offload.h"

#include <algorithm>
#include <span>

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace net = virtio::spec::net;

constexpr std::size_t kTypeAt = 12;
constexpr std::uint16_t kIpv4 = 0x0800;
constexpr std::uint16_t kIpv6 = 0x86dd;
constexpr std::size_t kIpAt = net::kEthernetHeaderBytes;
constexpr std::size_t kIpv4Bytes = 20;  // without options
constexpr std::size_t kIpv6Bytes = 40;
constexpr std::uint8_t kUdp = 17;
constexpr std::size_t kUdpBytes = 8;
constexpr std::size_t kUdpSumAt = 6;

std::uint16_t read16(std::span<const std::byte> bytes, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[at]) << 8U |
                                    std::to_integer<unsigned>(bytes[at + 1]));
}

void write16(std::span<std::byte> bytes, std::size_t at, std::size_t value) noexcept {
  bytes[at] = static_cast<std::byte>(value >> 8U);
  bytes[at + 1] = static_cast<std::byte>(value);
}

/// The sum of RFC 1071, not yet complemented.
std::uint32_t sum(std::span<const std::byte> bytes, std::uint32_t before = 0) noexcept {
  std::uint64_t total = before;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    total += std::to_integer<std::uint64_t>(bytes[i]) << (i % 2 == 0 ? 8U : 0U);
  while (total > 0xffff) total = (total & 0xffffU) + (total >> 16U);
  return static_cast<std::uint32_t>(total);
}

/// Writes the complement; a datagram without a checksum has 0 there, so that one whose checksum is 0 has all ones.
void write_sum(std::span<std::byte> bytes, std::size_t at, std::uint32_t total) noexcept {
  const std::uint32_t complement = ~total & 0xffffU;
  write16(bytes, at, complement == 0 ? 0xffffU : complement);
}

/// Makes the lengths, the IPv4 header and the checksum of a datagram right. `number`: which of its payload's it is.
void finish_datagram(std::span<std::byte> bytes, std::size_t udp_at, bool ipv6, std::size_t number) noexcept {
  const std::size_t udp_bytes = bytes.size() - udp_at;
  std::span<const std::byte> addresses;
  if (ipv6) {
    write16(bytes, kIpAt + 4, bytes.size() - kIpAt - kIpv6Bytes);
    addresses = bytes.subspan(kIpAt + 8, 32);
  } else {
    write16(bytes, kIpAt + 2, bytes.size() - kIpAt);
    write16(bytes, kIpAt + 4, read16(bytes, kIpAt + 4) + number);  // each datagram has an identification of its own
    write16(bytes, kIpAt + 10, 0);
    write16(bytes, kIpAt + 10, ~sum(bytes.subspan(kIpAt, udp_at - kIpAt)) & 0xffffU);
    addresses = bytes.subspan(kIpAt + 12, 8);
  }
  write16(bytes, udp_at + 4, udp_bytes);
  write16(bytes, udp_at + kUdpSumAt, 0);
  const std::uint32_t pseudo = sum(addresses) + kUdp + static_cast<std::uint32_t>(udp_bytes);
  write_sum(bytes, udp_at + kUdpSumAt, sum(bytes.subspan(udp_at), pseudo));
}

}  // namespace

bool Frame::ipv6() const noexcept { return bytes.size() >= kTypeAt + 2 && read16(bytes, kTypeAt) == kIpv6; }

std::string_view misfit(const Frame& frame) noexcept {
  const net::Header& header = frame.header;
  const std::span<const std::byte> bytes(frame.bytes);
  if ((header.flags & net::kHeaderNeedsCsum) == 0) {
    return header.gso_type == net::kGsoNone ? "" : "it is to be cut, and has no NEEDS_CSUM";
  }
  if (std::size_t{header.csum_start} + header.csum_offset + 2 > bytes.size()) return "its checksum lies behind its end";
  if (header.gso_type == net::kGsoNone) return "";
  if (header.gso_type != net::kGsoUdpL4) return "it is to be cut in a way that this card does not know";
  if (header.gso_size == 0) return "it is to be cut into pieces of no bytes";
  const std::size_t udp_at = header.csum_start;
  if (header.csum_offset != kUdpSumAt) return "it is no UDP datagram";
  if (frame.ipv6()) {
    const bool udp = udp_at == kIpAt + kIpv6Bytes && std::to_integer<std::uint8_t>(bytes[kIpAt + 6]) == kUdp;
    return udp ? "" : "it is no UDP datagram";
  }
  const bool udp = udp_at >= kIpAt + kIpv4Bytes && read16(bytes, kTypeAt) == kIpv4 &&
                   std::to_integer<std::uint8_t>(bytes[kIpAt + 9]) == kUdp;
  return udp ? "" : "it is no UDP datagram";
}

std::vector<Frame> finish(const Frame& frame) {
  const net::Header& header = frame.header;
  const std::span<const std::byte> bytes(frame.bytes);
  std::vector<Frame> finished;
  if (header.gso_type != net::kGsoUdpL4) {
    Frame& whole = finished.emplace_back(frame.bytes);
    if ((header.flags & net::kHeaderNeedsCsum) != 0) {
      // The field holds the sum of the pseudo header: the driver's part.
      write_sum(whole.bytes, std::size_t{header.csum_start} + header.csum_offset,
                sum(bytes.subspan(header.csum_start)));
    }
    return finished;
  }
  const std::size_t udp_at = header.csum_start;
  const std::span<const std::byte> headers = bytes.first(udp_at + kUdpBytes);
  std::span<const std::byte> payload = bytes.subspan(headers.size());
  do {
    const std::span<const std::byte> part = payload.first(std::min<std::size_t>(payload.size(), header.gso_size));
    payload = payload.subspan(part.size());
    Frame& piece = finished.emplace_back();
    piece.bytes.reserve(headers.size() + part.size());
    piece.bytes.insert(piece.bytes.end(), headers.begin(), headers.end());
    piece.bytes.insert(piece.bytes.end(), part.begin(), part.end());
    finish_datagram(piece.bytes, udp_at, frame.ipv6(), finished.size() - 1);
  } while (!payload.empty());
  return finished;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
