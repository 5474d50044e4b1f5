// SPDX-License-Identifier: Apache-2.0
// The qtest client against a peer that is played by the test.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <string>

#include "emulation/qemu/qtest.h"
#include "tests/qemu/support.h"

namespace upci::qemu_tests {
namespace {

using emulation::qemu::Qtest;

class QtestClient : public testing::Test {
 protected:
  QtestClient() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    client_ = std::make_unique<Qtest>(UniqueFd(ends[0]), std::chrono::milliseconds(200));
    peer_.reset(ends[1]);
  }
  /// The replies lie in the socket before the question comes: the client cannot tell.
  void reply(const std::string& text) {
    ASSERT_EQ(::send(peer_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  std::string sent() {
    std::array<char, 4096> buffer;
    const ssize_t got = ::recv(peer_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    return got < 0 ? "" : std::string(buffer.data(), static_cast<std::size_t>(got));
  }
  std::unique_ptr<Qtest> client_;
  UniqueFd peer_;
};

TEST_F(QtestClient, ReadsOfEachWidthAskForItAndAreCutToIt) {
  reply("OK 0x1ff\nOK 0x12345\nOK 0x123456789\nOK 0xfedcba9876543210\nOK 0x77\n");
  EXPECT_EQ(client_->read(0x10, 1), 0xffU);
  EXPECT_EQ(client_->read(0x10, 2), 0x2345U);
  EXPECT_EQ(client_->read(0x10, 4), 0x23456789U);
  EXPECT_EQ(client_->read(0x10, 8), 0xfedcba9876543210U);
  EXPECT_EQ(client_->in(0xcf8, 4), 0x77U);
  EXPECT_EQ(sent(), "readb 0x10\nreadw 0x10\nreadl 0x10\nreadq 0x10\ninl 0xcf8\n");
}

TEST_F(QtestClient, WritesWaitForTheirReplies) {
  reply("OK\nOK\nOK 0x5\n");
  client_->write(0x20, 4, 0x1122334455667788);
  client_->out(0xcfc, 1, 0x1ab);
  EXPECT_EQ(sent(), "writel 0x20 0x55667788\noutb 0xcfc 0xab\n");
  EXPECT_EQ(client_->read(0, 4), 5U) << "each reply has gone to its own command";
  client_->write(0, 4, 0);
  EXPECT_FALSE(client_->alive()) << "nobody replied";
}

TEST_F(QtestClient, InterruptLinesMayComeBetweenReplies) {
  reply("IRQ raise 4\nOK 0x5\nIRQ lower 4\nIRQ raise 11\nOK 0x6\n");
  EXPECT_EQ(client_->read(0, 4), 5U);
  EXPECT_EQ(client_->read(0, 4), 6U);
}

TEST_F(QtestClient, RepliesMayComeInPieces) {
  auto thread = platform::Thread::create({.name = "pieces"}, [this] {
    for (const char* piece : {"IR", "Q raise 4\nO", "K 0x", "2a", "\n"}) reply(piece);
  });
  ASSERT_TRUE(thread);
  EXPECT_EQ(client_->read(0, 4), 0x2aU);
  thread->join();
}

TEST_F(QtestClient, WhatIsNoReplyEndsTheConnection) {
  for (const std::string nonsense : {"FAIL Unknown command\n", "OK\n", "OK 0x\n", "OK 12\n", "\n", "OKAY 0x5\n"}) {
    int ends[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const UniqueFd peer(ends[1]);
    Qtest client{UniqueFd(ends[0]), std::chrono::milliseconds(200)};
    ASSERT_EQ(::send(peer.get(), nonsense.data(), nonsense.size(), 0), static_cast<ssize_t>(nonsense.size()));
    EXPECT_EQ(client.read(0, 2), 0xffffU) << nonsense;
    EXPECT_FALSE(client.alive());
    EXPECT_EQ(client.read(0, 8), ~std::uint64_t{0});
  }
}

TEST_F(QtestClient, ALineWithoutEndEndsTheConnection) {
  reply(std::string(10000, 'x'));
  EXPECT_EQ(client_->read(0, 4), 0xffffffffU);
  EXPECT_FALSE(client_->alive());
}

TEST_F(QtestClient, SilenceEndsTheConnectionAtTheLimitAndNotBefore) {
  const platform::TimePoint start = platform::Clock::now();
  EXPECT_EQ(client_->read(0, 4), 0xffffffffU);
  EXPECT_GE(platform::Clock::now() - start, std::chrono::milliseconds(200));
  EXPECT_FALSE(client_->alive());
}

TEST_F(QtestClient, AClosedPeerEndsTheConnectionAtOnce) {
  peer_.reset();
  client_->write(0, 4, 0);
  EXPECT_EQ(client_->read(0, 4), 0xffffffffU);
  EXPECT_FALSE(client_->alive());
}

TEST_F(QtestClient, SeveringFreesACallInAnotherThread) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd peer(ends[1]);
  Qtest patient{UniqueFd(ends[0]), std::chrono::seconds(60)};
  auto thread = platform::Thread::create({.name = "reader"}, [&] { EXPECT_EQ(patient.read(0, 4), 0xffffffffU); });
  ASSERT_TRUE(thread);
  // The question has come: the thread is in the call.
  std::array<char, 64> buffer;
  ASSERT_GT(::recv(peer.get(), buffer.data(), buffer.size(), 0), 0);
  const platform::TimePoint start = platform::Clock::now();
  patient.sever();
  thread->join();
  EXPECT_LT(platform::Clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace upci::qemu_tests
