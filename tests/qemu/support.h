// SPDX-License-Identifier: Apache-2.0
// What the tests of QEMU devices share.
#pragma once

#include <gtest/gtest.h>
#include <linux/pci_regs.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include "base/event_fd.h"
#include "emulation/qemu/qemu.h"

namespace upci::qemu_tests {

using Words = std::vector<std::pair<std::string, std::string>>;

inline emulation::DeviceSpec spec(const std::string& model, const Words& words = {}) {
  emulation::DeviceSpec result{.uri = "qemu:" + model, .model = model, .words = {}};
  for (const auto& [key, value] : words) result.words.push_back({.key = key, .value = value, .has_value = true});
  return result;
}

inline Result<std::shared_ptr<pci::Backend>> try_open(const emulation::DeviceSpec& wanted,
                                                      const emulation::qemu::Options& options = {}) {
  emulation::Cables cables;
  return emulation::qemu::open(wanted, cables, options);
}

inline std::shared_ptr<pci::Backend> open_or_fail(const std::string& model, const Words& words = {},
                                                  const emulation::qemu::Options& options = {}) {
  auto opened = try_open(spec(model, words), options);
  if (!opened) {
    ADD_FAILURE() << opened.error().message() << " / " << opened.error().advice;
    return nullptr;
  }
  return std::move(*opened);
}

/// The QEMUs that this process has started and that still exist, zombies too.
inline std::vector<pid_t> qemu_children() {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string number = entry.path().filename();
    if (number.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string stat;
    std::getline(file, stat);
    const std::size_t name = stat.find('(');
    const std::size_t name_end = stat.rfind(')');
    if (name == std::string::npos || name_end == std::string::npos) continue;
    if (!stat.substr(name + 1, name_end - name - 1).starts_with("qemu-system")) continue;
    // After the name: state, parent.
    if (std::stoi(stat.substr(name_end + 4)) == ::getpid()) found.push_back(std::stoi(number));
  }
  return found;
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

/// Waits for the eventfd, at most 5 s; returns its count.
inline std::uint64_t await_signal(const EventFd& eventfd) {
  pollfd entry{.fd = eventfd.fd(), .events = POLLIN, .revents = 0};
  ::poll(&entry, 1, 5000);
  return eventfd.drain();
}

/// QEMU's "edu" device: docs/specs/edu.txt of QEMU.
namespace edu {
inline constexpr std::uint64_t kId = 0x00, kLiveness = 0x04, kFactorial = 0x08, kStatus = 0x20;
inline constexpr std::uint64_t kIrqStatus = 0x24, kIrqRaise = 0x60, kIrqAck = 0x64;
inline constexpr std::uint64_t kDmaSource = 0x80, kDmaTarget = 0x88, kDmaCount = 0x90, kDmaCommand = 0x98;
inline constexpr std::uint64_t kDmaBuffer = 0x40000;
inline constexpr std::uint64_t kDmaStart = 1, kDmaToMemory = 2, kDmaInterrupt = 4;
}  // namespace edu

/// A program that a test writes: a shell script, gone with the object.
class Script {
 public:
  explicit Script(const std::string& body) : path_(testing::TempDir() + "upci-script-" + std::to_string(::getpid())) {
    std::ofstream(path_) << "#!/bin/sh\n" << body << '\n';
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
  }
  ~Script() { std::filesystem::remove(path_); }
  Script(const Script&) = delete;
  Script& operator=(const Script&) = delete;
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

}  // namespace upci::qemu_tests
