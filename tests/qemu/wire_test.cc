// SPDX-License-Identifier: Apache-2.0
// The wires of network devices.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <string>

#include "emulation/qemu/reflector.h"
#include "tests/qemu/legacy_queue.h"

namespace upci::qemu_tests {
namespace {

using emulation::qemu::Reflector;

/// Sends without waiting; false when the wire takes no more.
bool put(int fd, const std::string& frame) {
  return ::send(fd, frame.data(), frame.size(), MSG_DONTWAIT) == static_cast<ssize_t>(frame.size());
}

/// Waits at most 5 s for a frame.
std::string take(int fd) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  if (::poll(&entry, 1, 5000) <= 0) return "nothing";
  std::string frame(128 * 1024, '\0');
  const ssize_t got = ::recv(fd, frame.data(), frame.size(), MSG_DONTWAIT);
  frame.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return frame;
}

std::string numbered(std::size_t i) { return "frame " + std::to_string(i) + std::string(i % 1400, 'x'); }

TEST(Reflector, SendsEachFrameBackWhole) {
  const auto reflector = Reflector::create();
  ASSERT_TRUE(reflector);
  const int fd = (*reflector)->device_fd();
  for (const std::string& frame :
       {std::string("a"), std::string(60, 'b'), std::string(1514, 'c'), std::string(65000, 'd')}) {
    ASSERT_TRUE(put(fd, frame));
    EXPECT_EQ(take(fd), frame);
  }
}

TEST(Reflector, LosesNoFrameAndKeepsTheirOrderWhenTheOtherSideDoesNotRead) {
  const auto reflector = Reflector::create();
  ASSERT_TRUE(reflector);
  const int fd = (*reflector)->device_fd();
  // Sends until the wire is full from end to end, reading nothing.
  std::size_t sent = 0;
  for (;;) {
    pollfd entry{.fd = fd, .events = POLLOUT, .revents = 0};
    if (::poll(&entry, 1, 300) <= 0) break;
    if (put(fd, numbered(sent))) ++sent;
    ASSERT_LT(sent, 100000U) << "what it holds is not bounded";
  }
  EXPECT_GE(sent, Reflector::kMaxHeld);
  for (std::size_t i = 0; i < sent; ++i) ASSERT_EQ(take(fd), numbered(i));
  // And it works on as before.
  ASSERT_TRUE(put(fd, "last"));
  EXPECT_EQ(take(fd), "last");
}

TEST(Reflector, EndsAtOnceEvenWhenFramesWait) {
  auto reflector = Reflector::create();
  ASSERT_TRUE(reflector);
  for (std::size_t i = 0; i < 1000 && put((*reflector)->device_fd(), numbered(i)); ++i) {}
  const platform::TimePoint start = platform::Clock::now();
  (*reflector).reset();
  EXPECT_LT(platform::Clock::now() - start, std::chrono::seconds(10));
}

TEST(Reflector, SurvivesTheOtherSidesEnd) {
  const auto reflector = Reflector::create();
  ASSERT_TRUE(reflector);
  ASSERT_TRUE(put((*reflector)->device_fd(), "x"));
  (*reflector)->handed_over();  // closes it
}

/// A legacy virtio NIC with one buffer each way.
class Nic {
 public:
  explicit Nic(std::shared_ptr<pci::Backend> backend)
      : backend_(std::move(backend)),
        receive_buffer_(std::move(*backend_->dma().alloc({.len = kSize}))),
        transmit_buffer_(std::move(*backend_->dma().alloc({.len = kSize}))),
        receive_queue_(*backend_, 0),
        transmit_queue_(*backend_, 1) {
    LegacyQueue::begin(*backend_);
    receive_queue_.set_up();
    transmit_queue_.set_up();
    LegacyQueue::go(*backend_);
    receive_queue_.add(receive_buffer_->iova(), kSize, true);
  }
  ~Nic() { LegacyQueue::reset(*backend_); }

  bool send(const std::string& frame) {
    std::memcpy(transmit_buffer_->va() + kHeader, frame.data(), frame.size());
    transmit_queue_.add(transmit_buffer_->iova(), static_cast<std::uint32_t>(kHeader + frame.size()), false);
    return transmit_queue_.await_used();
  }
  std::string receive(std::size_t len) {
    if (!receive_queue_.await_used()) return "nothing";
    std::string frame(reinterpret_cast<const char*>(receive_buffer_->va() + kHeader), len);
    receive_queue_.add(receive_buffer_->iova(), kSize, true);
    return frame;
  }

 private:
  static constexpr std::uint32_t kSize = 2048;
  static constexpr std::size_t kHeader = 10;  // struct virtio_net_hdr without num_buffers

  const std::shared_ptr<pci::Backend> backend_;
  const std::unique_ptr<device::DmaMemory> receive_buffer_;
  const std::unique_ptr<device::DmaMemory> transmit_buffer_;
  LegacyQueue receive_queue_;
  LegacyQueue transmit_queue_;
};

emulation::DeviceSpec nic_on(emulation::WireSpec wire) {
  emulation::DeviceSpec result = spec("virtio-net-pci", {{"disable-modern", "on"}});
  result.wire = std::move(wire);
  return result;
}

/// A broadcast frame, so that no MAC filter drops it.
std::string broadcast(char fill) { return std::string(6, '\xff') + std::string(94, fill); }

TEST(QemuWire, LoopbackBringsFramesBack) {
  auto backend = try_open(nic_on({}));
  ASSERT_TRUE(backend);
  Nic nic(*backend);
  for (const char fill : {'a', 'b', 'c'}) {
    ASSERT_TRUE(nic.send(broadcast(fill)));
    EXPECT_EQ(nic.receive(100), broadcast(fill));
  }
}

TEST(QemuWire, ACableConnectsTwoDevices) {
  emulation::Cables cables;
  const emulation::WireSpec wire = {.kind = emulation::WireSpec::Kind::kCable, .name = "c"};
  auto one = emulation::qemu::open(nic_on(wire), cables);
  auto two = emulation::qemu::open(nic_on(wire), cables);
  ASSERT_TRUE(one && two);
  const auto third = emulation::qemu::open(nic_on(wire), cables);
  ASSERT_FALSE(third) << "a cable has two ends";
  EXPECT_EQ(third.error().code, Errc::kInvalid);
  Nic left(*one);
  Nic right(*two);
  ASSERT_TRUE(left.send(broadcast('l')));
  EXPECT_EQ(right.receive(100), broadcast('l'));
  ASSERT_TRUE(right.send(broadcast('r')));
  EXPECT_EQ(left.receive(100), broadcast('r'));
}

TEST(QemuWire, AUnixWireCarriesFramesBothWays) {
  const std::string path = testing::TempDir() + "upci-wire-" + std::to_string(::getpid());
  ::unlink(path.c_str());
  const emulation::WireSpec wire = {.kind = emulation::WireSpec::Kind::kUnix, .name = path};
  const auto unheard = try_open(nic_on(wire));
  ASSERT_FALSE(unheard);
  EXPECT_EQ(unheard.error().code, Errc::kUnavailable) << "nobody listens there";

  const UniqueFd listener(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof(address.sun_path));
  path.copy(address.sun_path, path.size());
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  auto backend = try_open(nic_on(wire));
  ::unlink(path.c_str());
  ASSERT_TRUE(backend);
  Nic nic(*backend);
  ASSERT_TRUE(nic.send(broadcast('o')));
  std::array<char, 256> frame;
  sockaddr_un sender{};
  socklen_t sender_size = sizeof(sender);
  const ssize_t got =
      ::recvfrom(listener.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&sender), &sender_size);
  ASSERT_EQ(got, 100);
  EXPECT_EQ(std::string(frame.data(), 100), broadcast('o'));
  ASSERT_EQ(::sendto(listener.get(), frame.data(), 100, 0, reinterpret_cast<const sockaddr*>(&sender), sender_size),
            100);
  EXPECT_EQ(nic.receive(100), broadcast('o'));
}

}  // namespace
}  // namespace upci::qemu_tests
