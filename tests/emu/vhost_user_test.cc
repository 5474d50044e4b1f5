// SPDX-License-Identifier: Apache-2.0
// What an emulated card does with a socket behind which there is no vhost-user back end, or one that lies. A true one is in
// vhost_direct_test.cc of tests/drivers.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "emulation/emu/emu.h"
#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

DeviceSpec card(const std::string& socket, std::string_view words = "") {
  DeviceSpec spec = test::spec_of(words);
  spec.wire = {.kind = WireSpec::Kind::kVhostUser, .name = socket};
  return spec;
}

Errc refusal(const std::string& socket, std::string_view word) {
  Cables cables;
  auto opened = open(card(socket), cables);
  EXPECT_FALSE(opened);
  if (opened) return Errc::kState;
  EXPECT_NE(opened.error().message().find(word), std::string::npos) << opened.error().message();
  return opened.error().code;
}

/// A listening socket whose first caller gets these bytes, and then nothing more.
class Impostor {
 public:
  explicit Impostor(std::vector<std::byte> answer) : answer_(std::move(answer)) {
    folder_ = (std::filesystem::temp_directory_path() / "upci-impostor-XXXXXX").string();
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    listening_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const void* const bound = &address;
    EXPECT_EQ(::bind(listening_.get(), static_cast<const sockaddr*>(bound), sizeof address), 0);
    EXPECT_EQ(::listen(listening_.get(), 1), 0);
    thread_ = std::thread([this] {
      const UniqueFd caller(::accept(listening_.get(), nullptr, nullptr));
      static_cast<void>(::send(caller.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL));
      ::shutdown(caller.get(), SHUT_WR);
      std::array<std::byte, 64> said{};
      while (::recv(caller.get(), said.data(), said.size(), 0) > 0) {}
    });
  }
  ~Impostor() {
    thread_.join();
    std::filesystem::remove_all(folder_);
  }
  std::string path() const { return folder_ + "/socket"; }

 private:
  const std::vector<std::byte> answer_;
  std::string folder_;
  UniqueFd listening_;
  std::thread thread_;
};

std::vector<std::byte> answer(std::uint32_t request, std::uint32_t flags, std::uint32_t size, std::uint64_t value) {
  std::vector<std::byte> bytes(20);
  std::memcpy(bytes.data(), &request, 4);
  std::memcpy(bytes.data() + 4, &flags, 4);
  std::memcpy(bytes.data() + 8, &size, 4);
  std::memcpy(bytes.data() + 12, &value, 8);
  return bytes;
}

TEST(VhostBackEnd, WhereNobodyListensTheSocketIsNamed) {
  EXPECT_EQ(refusal("/nonexistent/vhost", "/nonexistent/vhost"), Errc::kUnavailable);
  EXPECT_EQ(refusal(std::string(200, 'x'), "too long"), Errc::kInvalid);
}

TEST(VhostBackEnd, WhatAnswersOtherwiseIsNone) {
  const struct {
    std::vector<std::byte> bytes;
    const char* why;
  } cases[] = {
      {{}, "is lost"},
      {answer(15, 5, 8, 0), "answers request 1 with 15"},
      {answer(1, 1, 8, 0), "answers request 1"},
      {answer(1, 5, 4'000'000'000, 0), "4000000000 bytes"},
      {answer(1, 5, 4, 0), "with 4 bytes"},
      {answer(1, 5, 8, 0), "protocol features"},
  };
  for (const auto& one : cases) {
    const Impostor impostor(one.bytes);
    EXPECT_EQ(refusal(impostor.path(), one.why), Errc::kUnavailable) << one.why;
  }
}

TEST(VhostBackEnd, WhatSuchACardCannotBeIsInvalid) {
  const auto invalid = [](std::string_view words, std::string fault, std::uint16_t queues) {
    DeviceSpec spec = card("/nonexistent/vhost", words);
    spec.fault = std::move(fault);
    spec.wire.queues = queues;
    const auto checked = check(spec);
    return !checked && checked.error().code == Errc::kInvalid && !checked.error().advice.empty();
  };
  EXPECT_TRUE(invalid("legacy", "", 1));
  EXPECT_TRUE(invalid("transitional", "", 1));
  EXPECT_TRUE(invalid("", "used-index-jump", 1));
  EXPECT_TRUE(invalid("", "", 2));
  EXPECT_FALSE(invalid("", "status-stuck", 1));
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::emulation::emu
