// SPDX-License-Identifier: Apache-2.0
// Receive-side scaling and hash report: Linux sends flows, QEMU hashes and spreads them, this test reckons what it should have
// come to.
#include <array>
#include <set>

#include "tests/drivers/tap.h"
#include "virtio/spec/features.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

namespace feature = virtio::spec::net_feature;
using virtio_net::HashReport;

/// Section "Hash calculation for incoming packets": Toeplitz, with a key of at least input.size() + 4 bytes.
std::uint32_t toeplitz(std::span<const std::uint8_t> key, std::span<const std::byte> input) {
  std::uint32_t hash = 0;
  std::uint32_t window = 0;  // the 32 bits of the key that the next bit of the input meets
  for (std::size_t i = 0; i < 4; i++) window = window << 8 | key[i];
  for (std::size_t i = 0; i < input.size(); i++) {
    for (unsigned bit = 8; bit-- > 0;) {
      if ((std::to_integer<unsigned>(input[i]) >> bit & 1U) != 0) hash ^= window;
      window = window << 1 | (static_cast<std::uint32_t>(key[i + 4]) >> bit & 1U);
    }
  }
  return hash;
}

/// The addresses, and the ports where they count: they lie one after the other in the frame.
std::uint32_t ipv4_hash(std::span<const std::uint8_t> key, std::span<const std::byte> frame, bool ports) {
  return toeplitz(key, frame.subspan(kIpAt + 12, ports ? 12 : 8));
}

class Steering : public Tap {
 protected:
  /// A datagram of Linux's from a port of its own choice; what arrived of it.
  std::optional<Received> datagram(std::uint16_t to_port) {
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in to = address_of(kHere, to_port);
    const void* const plain = &to;
    const std::array<std::byte, 64> data{};
    EXPECT_EQ(::sendto(socket.get(), data.data(), data.size(), 0, static_cast<const sockaddr*>(plain), sizeof(to)),
              static_cast<ssize_t>(data.size()));
    return next_frame([&](std::span<const std::byte> frame) { return is_udp_to(frame, to_port); });
  }
  static Deadline soon() { return Deadline::after(10s); }
  void hashes_are_told() {
    const std::vector<std::uint8_t> key(virtio_net::kDefaultHashKey.begin(), virtio_net::kDefaultHashKey.end());
    ASSERT_TRUE(nic->set_hash_report(virtio_net::kHashUdpv4, key, soon()));
    for (std::uint16_t i = 0; i < 20; i++) {
      const auto got = datagram(static_cast<std::uint16_t>(3000 + i));
      ASSERT_TRUE(got);
      EXPECT_EQ(got->hash_report, HashReport::kUdpv4);
      EXPECT_EQ(got->hash, ipv4_hash(key, got->frame, true));
    }
    ASSERT_TRUE(nic->set_hash_report(0, key, soon()));
    const auto got = datagram(4000);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->hash_report, HashReport::kNone);
  }
};

INSTANTIATE_TEST_SUITE_P(Policies, Steering, testing::Bool(), policy_name);

TEST_P(Steering, FramesGoWhereTheTableSaysByTheirHash) {
  plug(4, bind(GetParam()), {"rss=on", "hash=on"});
  ASSERT_TRUE((nic->features() & virtio::spec::mask_of(feature::kRss)) != 0);
  ASSERT_TRUE((nic->features() & virtio::spec::mask_of(feature::kHashReport)) != 0);
  const virtio_net::SteeringLimits limits = nic->steering_limits();
  EXPECT_GE(limits.key_bytes, 40);
  EXPECT_GE(limits.table_entries, 128);
  ASSERT_EQ(limits.hash_types & virtio_net::kHashUdpv4, virtio_net::kHashUdpv4);

  virtio_net::Rss rss{.hash_types = virtio_net::kHashIpv4 | virtio_net::kHashUdpv4, .table = {}, .unclassified = 2};
  for (std::uint16_t i = 0; i < 64; i++) rss.table.push_back(static_cast<std::uint16_t>((i * 7 + i / 16) % 4));
  ASSERT_TRUE(nic->set_rss(rss, soon()));
  std::set<unsigned> pairs;
  for (std::uint16_t i = 0; i < 100; i++) {
    const auto got = datagram(static_cast<std::uint16_t>(3000 + i));
    ASSERT_TRUE(got);
    const std::uint32_t hash = ipv4_hash(rss.key, got->frame, true);
    EXPECT_EQ(got->hash_report, HashReport::kUdpv4);
    EXPECT_EQ(got->hash, hash);
    EXPECT_EQ(got->pair, rss.table[hash % rss.table.size()]);
    pairs.insert(got->pair);
  }
  EXPECT_EQ(pairs.size(), 4U);

  // By addresses alone all flows between two hosts are one; with another key another pair may be theirs.
  for (const std::uint8_t first : {std::uint8_t{1}, std::uint8_t{2}, std::uint8_t{3}}) {
    rss.hash_types = virtio_net::kHashIpv4;
    rss.key.assign(40, static_cast<std::uint8_t>(first * 41));
    rss.key[1] = first;
    ASSERT_TRUE(nic->set_rss(rss, soon()));
    for (std::uint16_t i = 0; i < 10; i++) {
      const auto got = datagram(static_cast<std::uint16_t>(4000 + i));
      ASSERT_TRUE(got);
      const std::uint32_t hash = ipv4_hash(rss.key, got->frame, false);
      EXPECT_EQ(got->hash_report, HashReport::kIpv4);
      EXPECT_EQ(got->hash, hash);
      EXPECT_EQ(got->pair, rss.table[hash % rss.table.size()]);
    }
  }

  // What is not hashed goes to one pair.
  rss.hash_types = virtio_net::kHashTcpv4;
  ASSERT_TRUE(nic->set_rss(rss, soon()));
  for (std::uint16_t i = 0; i < 10; i++) {
    const auto got = datagram(static_cast<std::uint16_t>(5000 + i));
    ASSERT_TRUE(got);
    EXPECT_EQ(got->hash_report, HashReport::kNone);
    EXPECT_EQ(got->pair, 2U);
  }
}

TEST_P(Steering, HashesAreToldWithoutSteering) {
  plug(1, bind(GetParam()), {"hash=on"});
  hashes_are_told();
}

TEST_P(Steering, HashesAreToldWithoutMergedBuffers) {
  plug(1, bind(GetParam()), {"hash=on", "mrg_rxbuf=off"});
  hashes_are_told();
}

TEST_P(Steering, WhatTheCardCannotTakeIsNotSent) {
  plug(4, bind(GetParam()), {"rss=on", "hash=on"});
  const auto refused = [&](const virtio_net::Rss& rss) {
    const auto set = nic->set_rss(rss, soon());
    return !set && set.error().code == Errc::kInvalid;
  };
  const virtio_net::Rss good{.hash_types = virtio_net::kHashUdpv4, .table = {0, 1, 2, 3}};
  EXPECT_TRUE(nic->set_rss(good, soon()));
  virtio_net::Rss bad = good;
  bad.table = {0, 1, 2};
  EXPECT_TRUE(refused(bad)) << "no power of two";
  bad.table.clear();
  EXPECT_TRUE(refused(bad)) << "no table";
  bad.table = {0, 4};
  EXPECT_TRUE(refused(bad)) << "no such pair";
  bad.table.assign(2U * nic->steering_limits().table_entries, 0);
  EXPECT_TRUE(refused(bad)) << "too long a table";
  bad = good;
  bad.unclassified = 4;
  EXPECT_TRUE(refused(bad));
  bad = good;
  bad.key.assign(nic->steering_limits().key_bytes + 1U, 1);
  EXPECT_TRUE(refused(bad)) << "too long a key";
  bad.key.clear();
  EXPECT_TRUE(refused(bad)) << "no key";
  bad = good;
  bad.hash_types = 1U << 31;
  EXPECT_TRUE(refused(bad)) << "a type that there is not";
  const auto hash = nic->set_hash_report(1U << 31, good.key, soon());
  ASSERT_FALSE(hash);
  EXPECT_EQ(hash.error().code, Errc::kInvalid);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
