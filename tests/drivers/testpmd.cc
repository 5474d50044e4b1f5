// SPDX-License-Identifier: Apache-2.0
#include "tests/drivers/testpmd.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/wait.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

constexpr const char* kProgram = "dpdk-testpmd";

int first_cpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  ::sched_getaffinity(0, sizeof cpus, &cpus);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &cpus)) return cpu;
  }
  return 0;
}

/// The number behind `label` in the last line of the output that has it.
std::uint64_t number_behind(std::string_view text, std::string_view label) {
  std::size_t at = text.rfind(label);
  if (at == std::string_view::npos) return 0;
  at = std::min(text.find_first_not_of(' ', at + label.size()), text.size());
  return std::strtoull(std::string(text.substr(at, 20)).c_str(), nullptr, 10);
}

std::string last_words(const std::string& text) { return text.size() <= 400 ? text : text.substr(text.size() - 400); }

}  // namespace

bool Testpmd::installed() {
  const char* const path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(':'), rest.size());
    if (::access(fmt::format("{}/{}", rest.substr(0, end), kProgram).c_str(), X_OK) == 0) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

Result<std::unique_ptr<Testpmd>> Testpmd::start(const Options& options, Deadline deadline) {
  std::string folder = (std::filesystem::temp_directory_path() / "upci-vhost-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return fail_errno("cannot make a folder for the vhost-user socket");
  UPCI_TRY_ASSIGN(auto output, emulation::qemu::OutputCapture::create());
  const int cpu = options.cpu >= 0 ? options.cpu : first_cpu();
  std::string port = fmt::format("net_vhost0,iface={}/vhost,queues={}", folder, options.queues);
  for (const std::string& word : options.port) port += "," + word;
  // No huge pages, no PCI devices, and nothing in the file system that another testpmd could find.
  std::vector<std::string> arguments = {"--lcores",
                                        fmt::format("0@{0},1@{0}", cpu),
                                        "--no-huge",
                                        "-m",
                                        "512",
                                        "--no-pci",
                                        "--no-shconf",
                                        "--no-telemetry",
                                        "--vdev",
                                        port,
                                        "--",
                                        "--total-num-mbufs=16384",
                                        fmt::format("--rxq={}", options.queues),
                                        fmt::format("--txq={}", options.queues),
                                        "--forward-mode=" + options.mode,
                                        "--stats-period=1"};
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  auto child = emulation::qemu::start_program(kProgram, arguments, output);
  if (!child) {
    std::filesystem::remove_all(folder);
    return fail(Errc::kUnavailable, fmt::format("{} cannot be started: {}", kProgram, child.error().message()),
                "install it (Debian: apt install dpdk-dev)");
  }
  std::unique_ptr<Testpmd> testpmd(new Testpmd(folder, std::move(output), std::move(*child)));
  while (testpmd->output().find("start packet forwarding") == std::string::npos) {
    if (!testpmd->child_.running() || deadline.expired()) {
      return fail(deadline.expired() ? Errc::kTimeout : Errc::kUnavailable,
                  fmt::format("{} did not start: {}", kProgram, last_words(testpmd->output())));
    }
    sleep_for(std::chrono::milliseconds(5));
  }
  return testpmd;
}

Testpmd::~Testpmd() {
  static_cast<void>(child_.kill());
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Result<Testpmd::Counts> Testpmd::stop(Deadline deadline) {
  UPCI_TRY_ASSIGN(const ExitStatus status, child_.terminate(deadline));
  const std::string text = output();
  const std::size_t at = text.rfind("Accumulated forward statistics");
  if (at == std::string::npos) {
    return fail(Errc::kDevice, fmt::format("{} {} without its counts: {}", kProgram, status.text(), last_words(text)));
  }
  const std::string_view counts = std::string_view(text).substr(at);
  return Counts{.received = number_behind(counts, "RX-packets:"),
                .receive_dropped = number_behind(counts, "RX-dropped:"),
                .sent = number_behind(counts, "TX-packets:"),
                .send_dropped = number_behind(counts, "TX-dropped:")};
}

}  // namespace upci::inline UPCI_VARIANT::driver_tests
