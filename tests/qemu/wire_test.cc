// SPDX-License-Identifier: Apache-2.0
// The loopback wire's far end.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <string>

#include "emulation/qemu/reflector.h"
#include "tests/qemu/support.h"

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
  for (const std::string& frame : {std::string("a"), std::string(60, 'b'), std::string(1514, 'c'), std::string(65000, 'd')}) {
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
  for (std::size_t i = 0; i < 1000 && put((*reflector)->device_fd(), numbered(i)); ++i) {
  }
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

}  // namespace
}  // namespace upci::qemu_tests
