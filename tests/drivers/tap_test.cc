// SPDX-License-Identifier: Apache-2.0
// Queue pairs, checksums and segmentation against Linux's stack behind QEMU's card.
#include <set>

#include "tests/drivers/tap.h"
#include "virtio/spec/features.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

namespace feature = virtio::spec::net_feature;

INSTANTIATE_TEST_SUITE_P(Policies, Tap, testing::Bool(), policy_name);

TEST_P(Tap, FourQueuePairsEachHaveTheirFlowsAndBottomHalves) {
  plug(4);
  ASSERT_EQ(nic->queue_pairs(), 4U);
  EXPECT_EQ(nic->stats().cpus.size(), 9U) << "the configuration's vector and one for each queue";
  Echo echo;
  // Linux learns a flow's queue from what it sends, and answers there.
  constexpr unsigned kRounds = 50;
  unsigned strays = 0;
  for (unsigned round = 0; round < kRounds; round++) {
    for (unsigned pair = 0; pair < 4; pair++) {
      const auto port = static_cast<std::uint16_t>(1000 + pair);
      const std::vector<std::byte> payload = pattern(round * 4 + pair, 64 + 300 * pair);
      send_frame(udp_frame({kHere, port}, {kThere, kEchoPort}, payload), {}, pair);
      const auto answer = next_frame([&](std::span<const std::byte> frame) { return is_udp_to(frame, port); });
      ASSERT_TRUE(answer) << "round " << round << ", pair " << pair;
      EXPECT_EQ(udp_payload(answer->frame), payload);
      if (answer->pair != pair) strays++;
    }
  }
  EXPECT_LE(strays, 4U) << "before Linux has learned a flow it may choose any queue";
  const virtio_net::NicStats stats = nic->stats();
  ASSERT_EQ(stats.pairs.size(), 4U);
  for (const virtio_net::QueueStats& pair : stats.pairs) EXPECT_EQ(pair.tx_frames, kRounds);
  for (const virtio_net::QueueStats& pair : stats.pairs) EXPECT_GE(pair.rx_frames, kRounds - strays);

  // With one active pair everything comes there.
  ASSERT_TRUE(nic->set_active_pairs(1, Deadline::after(10s)));
  for (std::uint16_t port = 2000; port < 2010; port++) {
    send_frame(udp_frame({kHere, port}, {kThere, kEchoPort}, pattern(port, 64)));
    const auto answer = next_frame([&](std::span<const std::byte> frame) { return is_udp_to(frame, port); });
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->pair, 0U);
  }
}

TEST_P(Tap, ByInterruptEachPairsFramesAreTakenOnItsCpu) {
  plug(4);
  const std::vector<int> cpus = nic->stats().cpus;
  EXPECT_EQ(std::set<int>(cpus.begin(), cpus.end()).size(), 4U) << "four pairs on four CPUs";
  platform::Atomic<std::uint32_t> answers{0};
  platform::Atomic<std::uint32_t> wrong{0};
  Engine& engine = bench.context->engine();
  ASSERT_TRUE(nic->set_receiver([&](std::span<virtio_net::Packet* const> packets) {
    for (virtio_net::Packet* packet : packets) {
      const unsigned pair = packet->queue_pair;
      if (engine.current_worker_cpu() != cpus[1 + 2 * pair]) wrong.fetch_add(1);
      if (is_udp_to(packet->bytes(), static_cast<std::uint16_t>(1000 + pair))) answers.fetch_add(1);
    }
    nic->free(packets);
  }));
  Echo echo;
  constexpr std::uint32_t kRounds = 50;
  for (std::uint32_t round = 0; round < kRounds; round++) {
    for (unsigned pair = 0; pair < 4; pair++) {
      const auto port = static_cast<std::uint16_t>(1000 + pair);
      send_frame(udp_frame({kHere, port}, {kThere, kEchoPort}, pattern(round, 100)), {}, pair);
    }
    const Deadline deadline = Deadline::after(100ms);  // one by one at first: Linux learns
    while (answers.load() < 4 * (round + 1) && !deadline.expired()) sleep_for(1ms);
  }
  EXPECT_GE(answers.load(), 4 * kRounds - 8);
  EXPECT_EQ(wrong.load(), 0U);
}

TEST_P(Tap, LinuxFillsInTheChecksumThatIsAskedFor) {
  plug(1);
  ASSERT_NE(nic->features() & virtio::spec::mask_of(feature::kCsum), 0U);
  Echo echo;
  const std::vector<std::byte> payload = pattern(3, 500);
  const auto wanted = [](std::span<const std::byte> frame) { return is_udp_to(frame, 1000); };
  // Only the pseudo header is summed up: without the offload Linux drops it.
  std::vector<std::byte> frame = udp_frame({kHere, 1000}, {kThere, kEchoPort}, payload, Sum::kPseudoHeader);
  send_frame(frame, {.flags = virtio::spec::net::kHeaderNeedsCsum, .csum_start = 34, .csum_offset = 6});
  const auto answer = next_frame(wanted);
  ASSERT_TRUE(answer);
  EXPECT_EQ(udp_payload(answer->frame), payload);
  EXPECT_TRUE(udp_sum_is_right(answer->frame)) << "no receive offload was asked for: Linux must sum up what it sends";
}

TEST_P(Tap, ATcpSegmentOf32KibIsSegmentedOnTheWay) {
  device::BindOptions options = bind(GetParam());
  options.require_features = {"GUEST_CSUM", "GUEST_TSO4", "HOST_TSO4", "CTRL_GUEST_OFFLOADS"};
  plug(1, options);
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Of its own for each run: Linux keeps an ended connection's for a minute.
  const std::uint16_t port = GetParam() ? 81 : 80;
  const sockaddr_in address = address_of(kThere, port);
  const void* const plain = &address;
  ASSERT_EQ(::bind(listener.get(), static_cast<const sockaddr*>(plain), sizeof(address)), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);

  TcpPeer peer({kHere, 5000}, {kThere, port});
  const auto mine = [](std::span<const std::byte> frame) { return is_tcp_to(frame, 5000); };
  send_frame(peer.syn());
  const auto syn_ack = next_frame(mine);
  ASSERT_TRUE(syn_ack);
  send_frame(peer.acknowledge(syn_ack->frame));
  const UniqueFd connection(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(connection);

  // To Linux: one frame of 32 KiB, in as many packets as that takes, with a segment size of 1,000.
  const std::vector<std::byte> data = pattern(9, 32768);
  send_frame(peer.segment(data, Sum::kPseudoHeader), {.flags = virtio::spec::net::kHeaderNeedsCsum,
                                                      .gso_type = virtio::spec::net::kGsoTcp4,
                                                      .header_bytes = 54,
                                                      .gso_size = 1000,
                                                      .csum_start = 34,
                                                      .csum_offset = 16});
  std::vector<std::byte> got(data.size());
  ASSERT_EQ(::recv(connection.get(), got.data(), got.size(), MSG_WAITALL), static_cast<ssize_t>(got.size()));
  EXPECT_EQ(got, data);

  // From Linux: what it sends at once. Returns how long the longest frame was.
  const auto receive = [&]() -> std::size_t {
    EXPECT_EQ(::send(connection.get(), data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
    std::vector<std::byte> back;
    std::size_t longest = 0;
    while (back.size() < data.size()) {
      const auto part =
          next_frame([&](std::span<const std::byte> frame) { return mine(frame) && !tcp_payload(frame).empty(); });
      if (!part) {
        ADD_FAILURE() << back.size() << " bytes so far";
        return 0;
      }
      const std::vector<std::byte> payload = tcp_payload(part->frame);
      if (!peer.is_next(part->frame)) continue;  // sent again before the acknowledgement came
      back.insert(back.end(), payload.begin(), payload.end());
      if (part->frame.size() > 1514) {
        EXPECT_EQ(part->offload.gso_type & ~virtio::spec::net::kGsoEcn, virtio::spec::net::kGsoTcp4);
        EXPECT_NE(part->offload.gso_size, 0);
      }
      longest = std::max(longest, part->frame.size());
      send_frame(peer.acknowledge(part->frame));
    }
    EXPECT_EQ(back, data);
    return longest;
  };
  // It arrives in frames longer than the MTU, which say how they would be cut; not while that is switched off, also after the
  // card has slept.
  EXPECT_GT(receive(), 1514U);
  ASSERT_TRUE(nic->set_receive_offloads(0, Deadline::after(10s)));
  EXPECT_LE(receive(), 1514U);
  ASSERT_TRUE(bench.context->freeze(bench.device, Deadline::after(10s)));
  ASSERT_TRUE(bench.context->restore(bench.device, Deadline::after(10s)));
  EXPECT_LE(receive(), 1514U);
  const auto all = virtio::spec::mask_of(feature::kGuestCsum) | virtio::spec::mask_of(feature::kGuestTso4);
  ASSERT_TRUE(nic->set_receive_offloads(all, Deadline::after(10s)));
  EXPECT_GT(receive(), 1514U);
  EXPECT_GT(nic->stats().rx_merged, 0U);
  EXPECT_GT(nic->stats().indirect_chains, 0U);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
