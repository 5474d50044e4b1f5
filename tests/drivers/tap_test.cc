// SPDX-License-Identifier: Apache-2.0
// QEMU's card on a tap interface: Linux's network stack is at the other end, in a network namespace of this test's own.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include <cstdlib>
#include <set>

#include "base/unique_fd.h"
#include "emulation/qemu/qemu.h"
#include "tests/drivers/bench.h"
#include "tests/drivers/packets.h"
#include "virtio/spec/features.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

namespace feature = virtio::spec::net_feature;

constexpr std::uint32_t kHere = 0x0a000002;   // 10.0.0.2, the card's
constexpr std::uint32_t kThere = 0x0a000001;  // 10.0.0.1, Linux's
constexpr std::uint16_t kEchoPort = 7777;

bool shell(const std::string& command) { return std::system(command.c_str()) == 0; }

/// The whole process moves: QEMU and the sockets of the test see the new namespace only.
class Tap : public testing::TestWithParam<bool> {
 protected:
  static void SetUpTestSuite() {
    ready = ::unshare(CLONE_NEWNET) == 0;
    if (!ready) return;
    ready = shell(
        "ip link set lo up && ip tuntap add dev upci1 mode tap vnet_hdr && "
        "ip tuntap add dev upci4 mode tap vnet_hdr multi_queue");
  }
  void SetUp() override {
    if (!ready) GTEST_SKIP() << "no tap interface in a network namespace: this takes root, /dev/net/tun and iproute2";
  }
  void TearDown() override {
    if (nic == nullptr) return;
    EXPECT_EQ(nic->stats().ring_violations, 0U);
    EXPECT_FALSE(nic->failed().has_value());
    bench.remove();
  }

  void plug(std::uint16_t queues, device::BindOptions options = bind(GetParam()), std::vector<std::string> words = {}) {
    const std::string name = "upci" + std::to_string(queues);
    words.insert(words.end(), {"disable-legacy=on", "mac=02:11:22:33:44:55"});
    emulation::DeviceSpec spec = emu_spec(words);
    spec.uri = "qemu:virtio-net-pci";
    spec.model = "virtio-net-pci";
    spec.wire = {.kind = emulation::WireSpec::Kind::kTap, .name = name, .queues = queues};
    auto opened = emulation::qemu::open(spec, bench.cables);
    ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
    const device::Report report = bench.probe(std::move(*opened), std::move(options), 5s);
    ASSERT_TRUE(report.ok()) << describe(report);
    nic = bench.nic();
    ASSERT_NE(nic, nullptr);
    ASSERT_TRUE(shell("ip addr flush dev upci1 && ip addr flush dev upci4 && ip link set " + name +
                      " address 02:00:00:00:00:01 up && ip addr replace 10.0.0.1/24 dev " + name +
                      " && ip neigh replace 10.0.0.2 lladdr 02:11:22:33:44:55 dev " + name));
  }

  /// Sends one frame; waits until the card takes it.
  void send_frame(const std::vector<std::byte>& frame, const virtio_net::Offload& offload = {}, unsigned pair = 0) {
    virtio_net::Packet* packet = nic->alloc();
    ASSERT_NE(packet, nullptr);
    ASSERT_TRUE(virtio_net::write_frame(*nic, *packet, frame));
    packet->offload = offload;
    ASSERT_EQ(nic->tx_burst(std::span(&packet, 1), pair), 1U);
    ASSERT_EQ(nic->stats().tx_invalid, 0U) << "what is asked for was not negotiated";
  }

  struct Received {
    std::vector<std::byte> frame;
    virtio_net::Offload offload;
    unsigned pair = 0;
  };
  /// The next frame for which `wanted` is true; all others (neighbour discovery and the like) are dropped.
  template <class F>
  std::optional<Received> next_frame(F wanted) {
    const Deadline deadline = Deadline::after(20s);
    while (!deadline.expired()) {
      for (unsigned pair = 0; pair < nic->queue_pairs(); pair++) {
        virtio_net::Packet* packet = nullptr;
        if (nic->rx_burst(std::span(&packet, 1), pair) == 0) continue;
        Received received{
            .frame = std::vector<std::byte>(packet->frame_bytes()), .offload = packet->offload, .pair = pair};
        EXPECT_EQ(packet->queue_pair, pair);
        virtio_net::read_frame(*packet, received.frame);
        nic->free(packet);
        if (wanted(received.frame)) return received;
      }
      platform::this_thread::yield();
    }
    return std::nullopt;
  }

  static inline bool ready = false;
  Bench bench;
  virtio_net::Nic* nic = nullptr;
};

/// A UDP socket of Linux's that sends back what comes, until it goes away.
class Echo {
 public:
  Echo() : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_in address = address_of(kThere, kEchoPort);
    const void* const plain = &address;
    EXPECT_EQ(::bind(socket_.get(), static_cast<const sockaddr*>(plain), sizeof(address)), 0);
    auto thread = platform::Thread::create({.name = "echo"}, [this] { run(); });
    EXPECT_TRUE(thread);
    thread_ = std::move(*thread);
  }
  ~Echo() {
    stop_.store(true);
    ::shutdown(socket_.get(), SHUT_RDWR);  // lets go of recvfrom, also on an unconnected socket
    thread_.join();
  }

 private:
  void run() {
    std::vector<std::byte> data(65536);
    while (!stop_.load()) {
      sockaddr_in from{};
      socklen_t length = sizeof(from);
      void* const plain = &from;
      const ssize_t got =
          ::recvfrom(socket_.get(), data.data(), data.size(), 0, static_cast<sockaddr*>(plain), &length);
      if (got <= 0) continue;
      ::sendto(socket_.get(), data.data(), static_cast<std::size_t>(got), 0, static_cast<sockaddr*>(plain), length);
    }
  }
  UniqueFd socket_;
  platform::Atomic<bool> stop_{false};
  platform::Thread thread_;
};

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
  options.require_features = {"GUEST_CSUM", "GUEST_TSO4", "HOST_TSO4"};
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

  // From Linux: what it sends at once arrives in frames longer than the MTU, which say how they would be cut.
  ASSERT_EQ(::send(connection.get(), data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
  std::vector<std::byte> back;
  std::size_t longest = 0;
  while (back.size() < data.size()) {
    const auto part =
        next_frame([&](std::span<const std::byte> frame) { return mine(frame) && !tcp_payload(frame).empty(); });
    ASSERT_TRUE(part) << back.size() << " bytes so far";
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
  EXPECT_GT(longest, 1514U);
  EXPECT_GT(nic->stats().rx_merged, 0U);
  EXPECT_GT(nic->stats().indirect_chains, 0U);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
