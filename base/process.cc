// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "base/blocking.h"
#include "base/platform.h"
#include "base/spawner.h"

namespace upci::inline UPCI_VARIANT {
namespace {

constexpr auto kKillPatience = std::chrono::seconds(5);

Result<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* variable = std::getenv("PATH");
  std::string_view path = variable != nullptr ? variable : "/usr/bin:/bin";
  while (!name.empty()) {
    const std::size_t colon = path.find(':');
    const std::string_view folder = path.substr(0, colon);
    const std::string candidate = (folder.empty() ? std::string(".") : std::string(folder)) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    if (colon == std::string_view::npos) break;
    path.remove_prefix(colon + 1);
  }
  return fail(Errc::kUnavailable, "cannot find the program '" + name + "' in PATH", "install it, or extend PATH");
}

// The variables given, and those of this process that they do not replace.
std::vector<std::string> whole_environment(std::vector<std::string> given) {
  const auto same_name = [](const std::string& a, const std::string& b) {
    return a.substr(0, a.find('=')) == b.substr(0, b.find('='));
  };
  const std::size_t own = given.size();
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string text(*variable);
    const auto end = given.begin() + static_cast<std::ptrdiff_t>(own);
    if (std::none_of(given.begin(), end, [&](const std::string& each) { return same_name(each, text); })) {
      given.push_back(text);
    }
  }
  return given;
}

}  // namespace

Result<Pipe> Pipe::create() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("cannot create a pipe");
  return Pipe{.read = UniqueFd(ends[0]), .write = UniqueFd(ends[1])};
}

std::string ExitStatus::text() const {
  if (signal == 0) return "exited with code " + std::to_string(code);
  const char* name = ::strsignal(signal);
  return "was killed by signal " + std::to_string(signal) + " (" + (name != nullptr ? name : "unknown") + ")";
}

Result<ChildProcess> ChildProcess::spawn(Spec spec) {
  if (spec.argv.empty()) return fail(Errc::kInvalid, "a child process needs a program");
  detail::SpawnOrder order;
  UPCI_TRY_ASSIGN(order.path, find_program(spec.argv.front()));
  order.argv = std::move(spec.argv);
  order.environment = whole_environment(std::move(spec.environment));
  for (const InheritedFd& each : spec.fds) {
    const int there = each.as >= 0 ? each.as : each.fd;
    const bool taken =
        std::any_of(order.fds.begin(), order.fds.end(), [&](const auto& fd) { return fd.second == there; });
    if (each.fd < 0 || there < 3 || taken) {
      return fail(Errc::kInvalid, "descriptor " + std::to_string(each.fd) + " cannot be number " +
                                      std::to_string(there) + " of a child process");
    }
    order.fds.emplace_back(each.fd, there);
  }
  if (spec.stdin_fd < 0) {
    order.owned.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!order.owned.back()) return fail_errno("cannot open /dev/null");
    spec.stdin_fd = order.owned.back().get();
  }
  order.fds.emplace_back(spec.stdin_fd, STDIN_FILENO);
  if (spec.stdout_fd >= 0) order.fds.emplace_back(spec.stdout_fd, STDOUT_FILENO);
  if (spec.stderr_fd >= 0) order.fds.emplace_back(spec.stderr_fd, STDERR_FILENO);
  UPCI_TRY_ASSIGN(detail::Spawned child, detail::spawn_by_thread(std::move(order)));
  return ChildProcess(child.pid, std::move(child.pidfd));
}

ChildProcess::ChildProcess(pid_t pid, UniqueFd pidfd) noexcept : pid_(pid), pidfd_(std::move(pidfd)) {}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      reaped_(std::exchange(other.reaped_, true)),
      status_(other.status_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  leave_behind();
  pid_ = std::exchange(other.pid_, -1);
  pidfd_ = std::move(other.pidfd_);
  reaped_ = std::exchange(other.reaped_, true);
  status_ = other.status_;
  return *this;
}

ChildProcess::~ChildProcess() { leave_behind(); }

void ChildProcess::leave_behind() noexcept {
  if (!reaped_ && pidfd_) (void)kill();
}

void ChildProcess::send(int signal) noexcept {
  if (!reaped_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0U);
}

bool ChildProcess::try_reap() {
  if (reaped_) return true;
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0) {
    // Somebody else has reaped it (a program that ignores SIGCHLD): it has ended, and nobody knows how.
    if (errno != ECHILD) return false;
    status_ = ExitStatus{.code = -1};
    return reaped_ = true;
  }
  if (info.si_pid == 0) return false;
  status_ = info.si_code == CLD_EXITED ? ExitStatus{.code = info.si_status} : ExitStatus{.signal = info.si_status};
  return reaped_ = true;
}

bool ChildProcess::running() { return !try_reap(); }

Result<ExitStatus> ChildProcess::wait(Deadline deadline) {
  if (try_reap()) return status_;
  UPCI_TRY_ASSIGN(platform::EventQueue queue, platform::EventQueue::create());
  UPCI_TRY(queue.add(pidfd_.get(), 0));
  while (!try_reap()) {
    if (deadline.expired()) {
      return fail(Errc::kTimeout, "child process " + std::to_string(pid_) + " has not ended in time");
    }
    BlockingScope blocking;
    platform::Event ended;
    queue.wait(std::span(&ended, 1), deadline.when());
  }
  return status_;
}

Result<ExitStatus> ChildProcess::terminate(Deadline deadline) {
  send(SIGTERM);
  if (Result<ExitStatus> ended = wait(deadline); ended) return ended;
  return kill();
}

Result<ExitStatus> ChildProcess::kill() {
  send(SIGKILL);
  Result<ExitStatus> ended = wait(Deadline::after(kKillPatience));
  if (!ended) {
    detail::reap_later(std::move(pidfd_));
    reaped_ = true;
    status_ = ExitStatus{.signal = SIGKILL};
    return fail(Errc::kTimeout, "child process " + std::to_string(pid_) + " cannot be killed",
                "it sits in a device access or a system call that does not return");
  }
  return ended;
}

}  // namespace upci::inline UPCI_VARIANT
