// SPDX-License-Identifier: Apache-2.0
// QEMU's card on a tap interface: Linux's network stack is at the other end, in a network namespace of the test's own.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include <cstdlib>

#include "base/unique_fd.h"
#include "emulation/qemu/qemu.h"
#include "tests/drivers/bench.h"
#include "tests/drivers/packets.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

inline constexpr std::uint32_t kHere = 0x0a000002;   // 10.0.0.2, the card's
inline constexpr std::uint32_t kThere = 0x0a000001;  // 10.0.0.1, Linux's
inline constexpr std::uint16_t kEchoPort = 7777;

inline bool shell(const std::string& command) { return std::system(command.c_str()) == 0; }

/// Plain and observed. The whole process moves: QEMU and the sockets of the test see the new namespace only.
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
    const device::Report report = bench.probe(std::move(*opened), std::move(options), 20s);
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
    std::uint32_t hash = 0;
    virtio_net::HashReport hash_report = virtio_net::HashReport::kNone;
  };
  /// The next frame for which `wanted` is true; all others (neighbour discovery and the like) are dropped.
  template <class F>
  std::optional<Received> next_frame(F wanted) {
    const Deadline deadline = Deadline::after(20s);
    while (!deadline.expired()) {
      for (unsigned pair = 0; pair < nic->queue_pairs(); pair++) {
        virtio_net::Packet* packet = nullptr;
        if (nic->rx_burst(std::span(&packet, 1), pair) == 0) continue;
        Received received{.frame = std::vector<std::byte>(packet->frame_bytes()),
                          .offload = packet->offload,
                          .pair = pair,
                          .hash = packet->hash,
                          .hash_report = packet->hash_report};
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

}  // namespace upci::inline UPCI_VARIANT::driver_tests
