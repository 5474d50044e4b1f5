// SPDX-License-Identifier: Apache-2.0
// What the cable is plugged into.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using emulation::Cables;
using emulation::WireSpec;

TEST(EmuWire, TheTextNamesAKindOrIsInvalid) {
  EXPECT_EQ(WireSpec::parse("loopback")->kind, WireSpec::Kind::kLoopback);
  EXPECT_EQ(WireSpec::parse("cable:a")->kind, WireSpec::Kind::kCable);
  EXPECT_EQ(WireSpec::parse("cable:a")->name, "a");
  EXPECT_EQ(WireSpec::parse("unix:/tmp/x:y")->name, "/tmp/x:y");
  for (const std::string_view bad :
       {"", "loop", "loopback:x", "cable", "cable:", "unix:", "tap:", "tap:x:0", "vhost-user:"}) {
    auto parsed = WireSpec::parse(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, Errc::kInvalid);
    EXPECT_FALSE(parsed.error().advice.empty());
  }
  EXPECT_EQ(WireSpec::parse("tap:x")->kind, WireSpec::Kind::kTap);
  EXPECT_EQ(WireSpec::parse("vhost-user:/tmp/x:4")->queues, 4);
}

TEST(EmuWire, AnInProcessDeviceHasNoTap) {
  Cables cables;
  const auto wire = emulation::open_wire(*WireSpec::parse("tap:x"), cables);
  ASSERT_FALSE(wire);
  EXPECT_EQ(wire.error().code, Errc::kInvalid);
}

TEST(EmuWire, ACableHasTwoEnds) {
  each_run(
      [] {
        Cables cables;
        EXPECT_TRUE(cables.dangling().empty());
        auto first = cables.take_end("a");
        ASSERT_TRUE(first);
        EXPECT_EQ(cables.dangling(), std::vector<std::string>{"a"});
        auto second = cables.take_end("a");
        ASSERT_TRUE(second);
        EXPECT_TRUE(cables.dangling().empty());
        auto third = cables.take_end("a");
        ASSERT_FALSE(third);
        EXPECT_EQ(third.error().code, Errc::kInvalid);
        ASSERT_EQ(::send(first->get(), "hello", 5, 0), 5);
        char buffer[16];
        EXPECT_EQ(::recv(second->get(), buffer, sizeof(buffer), 0), 5);
      },
      1);
}

TEST(EmuWire, ACableConnectsTwoDevicesBothWays) {
  each_run(
      [] {
        Cables cables;
        TinyDriver left(open_device("wire=cable:x", cables));
        TinyDriver right(open_device("legacy,queue_size=16,wire=cable:x", cables), true);
        left.bring_up();
        right.bring_up();
        for (std::uint32_t i = 0; i < 20; ++i) {
          left.send(make_frame(60 + i, i));
          right.send(make_frame(90 + i, i));
          EXPECT_EQ(right.receive(), make_frame(60 + i, i));
          EXPECT_EQ(left.receive(), make_frame(90 + i, i));
        }
        EXPECT_EQ(left.violations(), std::vector<std::string>());
        EXPECT_EQ(right.violations(), std::vector<std::string>());
      },
      10);
}

TEST(EmuWire, AFullCableHoldsTheTransmitQueueBackAndNothingIsLost) {
  each_run(
      [] {
        Cables cables;
        TinyDriver left(open_device("wire=cable:x", cables));
        TinyDriver right(open_device("wire=cable:x", cables));
        left.bring_up();
        right.bring_up(TinyDriver::kUsual, 0);  // takes nothing for now
        std::uint32_t sent = 0;
        // Send until the queue is held back: the socket's buffer has a bound, whatever it is.
        auto& queue = left.queue(vspec::net::kTransmitQueue);
        const auto room = [&] {
          return static_cast<std::uint16_t>(queue.avail_index - left.used_index(vspec::net::kTransmitQueue)) <
                 TinyDriver::kSize;
        };
        const auto may_send = [&] {
          const Deadline soon = Deadline::after(std::chrono::milliseconds(20));
          while (!room() && !soon.expired()) platform::this_thread::yield();
          return room();
        };
        while (sent < 20'000 && may_send()) left.send(make_frame(1500, sent++));
        ASSERT_LT(sent, 20'000U) << "nothing held it back";
        right.offer_receive_buffers(TinyDriver::kSize);
        for (std::uint32_t i = 0; i < sent; ++i) ASSERT_EQ(right.receive(), make_frame(1500, i)) << "frame " << i;
        EXPECT_TRUE(left.wait_for_transmit());
        EXPECT_EQ(emu::frame_counts(left.backend()).dropped, 0U);
        EXPECT_EQ(emu::frame_counts(left.backend()).sent, sent);
      },
      2);
}

TEST(EmuWire, WithNobodyAtTheOtherEndFramesAreCountedAsDropped) {
  each_run(
      [] {
        Cables cables;
        TinyDriver left(open_device("wire=cable:x", cables));
        left.bring_up();
        cables.take_end("x")->reset();
        left.send(make_frame(64, 1));
        EXPECT_TRUE(left.wait_for_transmit());
        EXPECT_EQ(emu::frame_counts(left.backend()).dropped, 1U);
      },
      3);
}

/// A datagram socket that is bound at a path of its own, as a program at the other side would have it.
class Peer {
 public:
  Peer() : path_("/tmp/upci-emu-wire." + std::to_string(::getpid()) + ".sock") {
    ::unlink(path_.c_str());
    fd_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size());
    const void* const raw = &address;
    EXPECT_EQ(::bind(fd_.get(), static_cast<const sockaddr*>(raw), sizeof(address)), 0);
  }
  ~Peer() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }
  void close() { fd_.reset(); }

  /// The next datagram; its sender becomes the one to be answered.
  Frame receive() {
    Frame frame(2048);
    ssize_t got = -1;
    EXPECT_TRUE(eventually([&] {
      from_length_ = sizeof(from_);
      void* const raw = &from_;
      got = ::recvfrom(fd_.get(), frame.data(), frame.size(), 0, static_cast<sockaddr*>(raw), &from_length_);
      return got >= 0;
    }));
    frame.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return frame;
  }
  void answer(const Frame& frame) {
    const void* const raw = &from_;
    EXPECT_EQ(::sendto(fd_.get(), frame.data(), frame.size(), 0, static_cast<const sockaddr*>(raw), from_length_),
              static_cast<ssize_t>(frame.size()));
    platform::fd_signalled();
  }

 private:
  std::string path_;
  UniqueFd fd_;
  sockaddr_un from_{};
  socklen_t from_length_ = 0;
};

TEST(EmuWire, AUnixSocketCarriesFramesBothWays) {
  each_run(
      [] {
        Peer peer;
        TinyDriver driver(open_device("wire=unix:" + peer.path()));
        driver.bring_up();
        for (std::uint32_t i = 0; i < 5; ++i) {
          driver.send(make_frame(64 + i, i));
          EXPECT_EQ(peer.receive(), make_frame(64 + i, i));
          peer.answer(make_frame(80 + i, i));
          EXPECT_EQ(driver.receive(), make_frame(80 + i, i));
        }
        // Runts and giants are no frames.
        peer.answer(make_frame(5, 1));
        peer.answer(make_frame(1600, 1));
        peer.answer(make_frame(64, 99));
        EXPECT_EQ(driver.receive(), make_frame(64, 99));
        EXPECT_EQ(emu::frame_counts(driver.backend()).dropped, 2U);
      },
      3);
}

TEST(EmuWire, AUnixPeerThatIsSlowHoldsTheTransmitQueueBack) {
  each_run(
      [] {
        Peer peer;
        TinyDriver driver(open_device("wire=unix:" + peer.path()));
        driver.bring_up();
        constexpr std::uint32_t kFrames = 600;  // more than any system's queue of datagrams
        std::uint32_t sent = 0;
        std::uint32_t received = 0;
        auto& queue = driver.queue(vspec::net::kTransmitQueue);
        while (received < kFrames) {
          const auto under_way =
              static_cast<std::uint16_t>(queue.avail_index - driver.used_index(vspec::net::kTransmitQueue));
          if (sent < kFrames && under_way < TinyDriver::kSize) {
            driver.send(make_frame(64, sent++));
          } else {
            ASSERT_EQ(peer.receive(), make_frame(64, received)) << "frame " << received;
            ++received;
          }
        }
        EXPECT_EQ(emu::frame_counts(driver.backend()).dropped, 0U);
      },
      1);
}

TEST(EmuWire, WithoutAListenerTheDeviceCannotBeOpened) {
  each_run(
      [] {
        Cables cables;
        auto opened = emu::open(spec_of("wire=unix:/tmp/upci-nobody-is-here"), cables);
        ASSERT_FALSE(opened);
        EXPECT_EQ(opened.error().code, Errc::kUnavailable);
        EXPECT_FALSE(opened.error().advice.empty());
        auto long_path = emu::open(spec_of("wire=unix:/tmp/" + std::string(200, 'x')), cables);
        ASSERT_FALSE(long_path);
        EXPECT_EQ(long_path.error().code, Errc::kInvalid);
      },
      1);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
