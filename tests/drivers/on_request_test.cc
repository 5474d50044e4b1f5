// SPDX-License-Identifier: Apache-2.0
// What no device model of QEMU's 7.2 offers, over the in-process card, which offers it on request: NOTIFICATION_DATA, ORDER_PLATFORM,
// IN_ORDER, each on split and packed rings, and UDP segmentation (USO) both ways.
#include "tests/drivers/bench.h"
#include "tests/drivers/packets.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

namespace net = virtio::spec::net;

std::string ring_name(const testing::TestParamInfo<const char*>& tested) {
  return std::string_view(tested.param) == "packed=on" ? "Packed" : "Split";
}

// The card compares each notification with the ring; remove() fails where one was wrong.
class NotificationData : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Rings, NotificationData, testing::Values("packed=off", "packed=on"), ring_name);

TEST_P(NotificationData, EachNotificationSaysWhereTheRingStands) {
  run(10, [] {
    for (const char* event_idx : {"event_idx=on", "event_idx=off"}) {
      Bench bench;
      const device::Report report = bench.probe_emu(
          emu_spec({"modern", "notification_data=on", "order_platform=on", event_idx, GetParam()}), bind(true), 10s);
      ASSERT_EQ(report.result, "ok");
      EXPECT_TRUE(has_feature(report, "NOTIFICATION_DATA"));
      EXPECT_TRUE(has_feature(report, "ORDER_PLATFORM"));
#if defined(UPCI_SIM)
      loop_polled(*bench.nic(), {.frames = 600});
#else
      loop_polled(*bench.nic(), {.frames = 70'000});  // the index goes round
#endif
      EXPECT_GT(bench.nic()->stats().kicks, 0U);
      bench.remove();
    }
  });
}

TEST_P(NotificationData, DeclinedItIsNotUsed) {
  run(2, [] {
    Bench bench;
    device::BindOptions options = bind(true);
    options.decline_features = {"NOTIFICATION_DATA", "ORDER_PLATFORM", "RING_RESET"};
    const device::Report report = bench.probe_emu(
        emu_spec({"modern", "notification_data=on", "order_platform=on", "ring_reset=on", GetParam()}), options, 10s);
    ASSERT_EQ(report.result, "ok");
    EXPECT_FALSE(has_feature(report, "NOTIFICATION_DATA"));
    EXPECT_FALSE(has_feature(report, "ORDER_PLATFORM"));
    EXPECT_FALSE(has_feature(report, "RING_RESET"));
    loop_polled(*bench.nic(), {.frames = 100});
    bench.remove();
  });
}

// The card tells only the last one of the frames that it sent together, and takes no chain whose descriptors are out of order.
class InOrder : public testing::TestWithParam<std::tuple<const char*, bool>> {
 protected:
  static const char* ring() { return std::get<0>(GetParam()); }
  static bool observed() { return std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(RingsAndPolicies, InOrder,
                         testing::Combine(testing::Values("packed=off", "packed=on"), testing::Bool()),
                         [](const testing::TestParamInfo<std::tuple<const char*, bool>>& tested) {
                           return std::string(std::string_view(std::get<0>(tested.param)) == "packed=on" ? "Packed"
                                                                                                         : "Split") +
                                  (std::get<1>(tested.param) ? "Observed" : "Plain");
                         });

TEST_P(InOrder, WhatIsUsedTogetherComesBackTogether) {
  for (const char* merges : {"mrg_rxbuf=on", "mrg_rxbuf=off"}) {
    for (const char* indirect : {"indirect_desc=on", "indirect_desc=off"}) {
      run(5, [&] {
        Bench bench;
        const device::Report report = bench.probe_emu(
            emu_spec({"modern", "in_order=on", "mtu=9000", merges, indirect, ring()}), bind(observed()), 10s);
        ASSERT_TRUE(report.ok()) << describe(report);
        EXPECT_EQ(has_feature(report, "RING_PACKED"), ring() == std::string_view("packed=on"));
        EXPECT_TRUE(has_feature(report, "IN_ORDER"));
#if defined(UPCI_SIM)
        loop_polled(*bench.nic(), {.frames = 600, .length = 60, .longest = 9014});
#else
        loop_polled(*bench.nic(), {.frames = 70'000, .length = 60});  // the index goes round
        loop_by_interrupt(*bench.nic(), {.frames = 2'000, .length = 60, .longest = 9014});
#endif
        EXPECT_GT(bench.nic()->stats().batched_chains, 0U);
        EXPECT_EQ(bench.nic()->stats().ring_violations, 0U);
        EXPECT_FALSE(bench.nic()->failed().has_value());
        bench.remove();
      });
    }
  }
}

TEST_P(InOrder, DeclinedEachIsToldByItself) {
  run(5, [] {
    Bench bench;
    device::BindOptions options = bind(observed());
    options.decline_features = {"IN_ORDER"};
    const device::Report report = bench.probe_emu(emu_spec({"modern", "in_order=on", ring()}), options, 10s);
    ASSERT_TRUE(report.ok()) << describe(report);
    EXPECT_FALSE(has_feature(report, "IN_ORDER"));
    loop_polled(*bench.nic(), {.frames = 600});
    EXPECT_EQ(bench.nic()->stats().batched_chains, 0U);
    bench.remove();
  });
}

// --- UDP segmentation ---

constexpr Endpoint kHere{.address = 0x0a000002, .port = 1000}, kThere{.address = 0x0a000001, .port = 2000};
constexpr std::uint16_t kPiece = 1000;
constexpr std::size_t kIpv6Udp = 54;  // where UDP begins behind IPv6

/// An IPv4 or IPv6 datagram whose checksum holds that of the pseudo header only.
std::vector<std::byte> datagram(std::span<const std::byte> payload, bool ipv6) {
  std::vector<std::byte> frame = udp_frame(kHere, kThere, payload, Sum::kPseudoHeader);
  if (!ipv6) return frame;
  std::vector<std::byte> made(frame.begin(), frame.begin() + kIpAt);
  made.resize(kIpv6Udp);
  write16(made, 12, 0x86dd);
  made[kIpAt] = std::byte{0x60};
  write16(made, kIpAt + 4, static_cast<std::uint16_t>(8 + payload.size()));
  made[kIpAt + 6] = std::byte{IPPROTO_UDP};
  made[kIpAt + 7] = std::byte{64};
  for (std::size_t i = 0; i < 32; ++i) made[kIpAt + 8 + i] = static_cast<std::byte>(0x20 + i);  // addresses
  made.insert(made.end(), frame.begin() + kTransportAt, frame.end());
  const auto length = static_cast<std::uint32_t>(8 + payload.size());
  write16(made, kIpv6Udp + 6,
          static_cast<std::uint16_t>(sum_of(std::span(made).subspan(kIpAt + 8, 32), IPPROTO_UDP + length)));
  return made;
}

/// Over the whole datagram, pseudo header and all.
bool sum_is_right(std::span<const std::byte> frame, bool ipv6) {
  if (!ipv6) return udp_sum_is_right(frame) && sum_of(frame.subspan(kIpAt, 20)) == 0xffff;
  const auto length = static_cast<std::uint32_t>(frame.size() - kIpv6Udp);
  return sum_of(frame.subspan(kIpv6Udp), sum_of(frame.subspan(kIpAt + 8, 32), IPPROTO_UDP + length)) == 0xffff;
}

virtio_net::Offload to_be_cut(bool ipv6) {
  const auto udp_at = static_cast<std::uint16_t>(ipv6 ? kIpv6Udp : kTransportAt);
  return {.flags = net::kHeaderNeedsCsum,
          .gso_type = net::kGsoUdpL4,
          .header_bytes = static_cast<std::uint16_t>(udp_at + 8),
          .gso_size = kPiece,
          .csum_start = udp_at,
          .csum_offset = 6};
}

bool send_one(virtio_net::Nic& nic, std::span<const std::byte> frame, const virtio_net::Offload& offload) {
  virtio_net::Packet* packet = nic.alloc();
  if (packet == nullptr || !virtio_net::write_frame(nic, *packet, frame)) return false;
  packet->offload = offload;
  return nic.tx_burst(std::span(&packet, 1)) == 1;
}

struct Received {
  std::vector<std::byte> frame;
  virtio_net::Offload offload;
};
/// The next `count` frames.
std::vector<Received> receive(virtio_net::Nic& nic, std::size_t count) {
  std::vector<Received> all;
  const Deadline deadline = Deadline::after(20s);
  while (all.size() < count && !deadline.expired()) {
    virtio_net::Packet* packet = nullptr;
    if (nic.rx_burst(std::span(&packet, 1)) == 0) {
      platform::this_thread::yield();
      continue;
    }
    Received& one = all.emplace_back(std::vector<std::byte>(packet->frame_bytes()), packet->offload);
    virtio_net::read_frame(*packet, one.frame);
    nic.free(packet);
  }
  EXPECT_EQ(all.size(), count);
  return all;
}

struct UsoCase {
  bool ipv6;
  bool merges;
  bool observed;
};
class Uso : public testing::TestWithParam<UsoCase> {
 protected:
  /// Probes a card of which the driver takes these.
  device::Report probe(Bench& bench, std::vector<std::string> wanted) {
    device::BindOptions options = bind(GetParam().observed);
    options.require_features = std::move(wanted);
    return bench.probe_emu(emu_spec({"modern", "uso=on", GetParam().merges ? "mrg_rxbuf=on" : "mrg_rxbuf=off"}),
                           options, 10s);
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, Uso,
                         testing::Values(UsoCase{false, true, false}, UsoCase{false, true, true},
                                         UsoCase{false, false, true}, UsoCase{true, true, true},
                                         UsoCase{true, false, false}),
                         [](const testing::TestParamInfo<UsoCase>& tested) {
                           return std::string(tested.param.ipv6 ? "Ipv6" : "Ipv4") +
                                  (tested.param.merges ? "Merged" : "") +
                                  (tested.param.observed ? "Observed" : "Plain");
                         });

TEST_P(Uso, TheCardCutsALongPayloadIntoDatagrams) {
  run(5, [&] {
    Bench bench;
    const device::Report report = probe(bench, {"HOST_USO"});
    ASSERT_TRUE(report.ok()) << describe(report);
    const bool ipv6 = GetParam().ipv6;
    const std::vector<std::byte> payload = pattern(5, 20'300);
    ASSERT_TRUE(send_one(*bench.nic(), datagram(payload, ipv6), to_be_cut(ipv6)));
    std::vector<std::byte> put_together;
    std::vector<unsigned> identifications;
    for (const Received& one : receive(*bench.nic(), 21)) {
      ASSERT_GE(one.frame.size(), (ipv6 ? kIpv6Udp : kTransportAt) + 8);
      EXPECT_TRUE(sum_is_right(one.frame, ipv6));
      EXPECT_FALSE(one.offload.any());
      EXPECT_EQ(read16(one.frame, ipv6 ? kIpAt + 4 : kIpAt + 2), one.frame.size() - kIpAt - (ipv6 ? 40 : 0));
      if (!ipv6) identifications.push_back(read16(one.frame, kIpAt + 4));
      const auto payload_of_one = std::span(one.frame).subspan((ipv6 ? kIpv6Udp : kTransportAt) + 8);
      put_together.insert(put_together.end(), payload_of_one.begin(), payload_of_one.end());
    }
    EXPECT_EQ(put_together, payload);
    EXPECT_EQ(std::ranges::adjacent_find(identifications), identifications.end());
    bench.remove();
  });
}

TEST_P(Uso, ADriverThatTakesLongPayloadsGetsThemWhole) {
  run(5, [&] {
    Bench bench;
    const device::Report report = probe(bench, {"HOST_USO", "GUEST_CSUM", "GUEST_USO4", "GUEST_USO6"});
    ASSERT_TRUE(report.ok()) << describe(report);
    const bool ipv6 = GetParam().ipv6;
    const std::vector<std::byte> frame = datagram(pattern(6, 20'300), ipv6);
    const virtio_net::Offload sent = to_be_cut(ipv6);
    ASSERT_TRUE(send_one(*bench.nic(), frame, sent));
    const std::vector<Received> received = receive(*bench.nic(), 1);
    ASSERT_EQ(received.size(), 1U);
    EXPECT_EQ(received[0].frame, frame);
    EXPECT_EQ(received[0].offload.gso_type, net::kGsoUdpL4);
    EXPECT_EQ(received[0].offload.gso_size, sent.gso_size);
    EXPECT_EQ(received[0].offload.flags, net::kHeaderNeedsCsum);
    EXPECT_EQ(received[0].offload.csum_start, sent.csum_start);
    bench.remove();
  });
}

TEST_P(Uso, AChecksumIsFilledInOrLeftToTheDriverThatTakesThat) {
  run(5, [&] {
    for (const bool takes : {false, true}) {
      Bench bench;
      const device::Report report =
          probe(bench, takes ? std::vector<std::string>{"GUEST_CSUM"} : std::vector<std::string>{});
      ASSERT_TRUE(report.ok()) << describe(report);
      const bool ipv6 = GetParam().ipv6;
      virtio_net::Offload offload = to_be_cut(ipv6);
      offload.gso_type = net::kGsoNone;
      offload.gso_size = offload.header_bytes = 0;
      const std::vector<std::byte> frame = datagram(pattern(7, 700), ipv6);
      ASSERT_TRUE(send_one(*bench.nic(), frame, offload));
      const std::vector<Received> received = receive(*bench.nic(), 1);
      ASSERT_EQ(received.size(), 1U);
      EXPECT_EQ(sum_is_right(received[0].frame, ipv6), !takes);
      EXPECT_EQ(received[0].offload.any(), takes);
      bench.remove();
    }
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
