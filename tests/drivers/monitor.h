// SPDX-License-Identifier: Apache-2.0
// QEMU's monitor (QMP), over a socket in a directory of the test's own.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

/// A directory of the test's own, gone with everything in it afterwards.
class Folder {
 public:
  Folder() {
    std::string path = (std::filesystem::temp_directory_path() / "upci-blk-XXXXXX").string();
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name, std::size_t bytes) const {
    const std::string path = path_ + "/" + name;
    { const std::ofstream made(path, std::ios::binary); }
    std::filesystem::resize_file(path, bytes);
    return path;
  }
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// QEMU's monitor: one command at a time.
class Monitor {
 public:
  static std::vector<std::string> arguments(const Folder& folder) {
    return {"-qmp", "unix:" + folder.path("qmp") + ",server=on,wait=off"};
  }
  explicit Monitor(const Folder& folder) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    folder.path("qmp").copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    EXPECT_EQ(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    read_line();  // the greeting
    EXPECT_NE(run(R"({"execute":"qmp_capabilities"})").find("return"), std::string::npos);
  }
  /// The answer; events that come before it are passed over.
  std::string run(const std::string& command) {
    EXPECT_EQ(::write(fd_.get(), command.data(), command.size()), static_cast<ssize_t>(command.size()));
    for (;;) {
      std::string line = read_line();
      if (line.empty() || line.find("\"event\"") == std::string::npos) return line;
    }
  }

 private:
  std::string read_line() {
    std::string line;
    for (char c = 0; ::read(fd_.get(), &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }
  UniqueFd fd_;
};

}  // namespace upci::inline UPCI_VARIANT::driver_tests
