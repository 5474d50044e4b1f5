// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/attribute.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/process.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {
namespace {

constexpr std::size_t kLongest = 4096;  // of an attribute: sysfs gives a page

/// What the child sends, in one write: a child that is killed has sent nothing, or is found out by the length.
struct Answer {
  int error = 0;           // 0, or an errno
  bool opened = false;     // the error is that of the read or write
  std::size_t length = 0;  // of what it read, which follows
};

struct Order {
  const char* path;
  const char* text;  // null: read
  std::size_t length;
  int answer_fd;
  int lock_fd;
};

/// Closes all descriptors from `first` to `last`.
void close_all(int first, int last) noexcept {
  if (first > last) return;
  if (::close_range(static_cast<unsigned>(first), static_cast<unsigned>(last), 0) == 0) return;
  for (int fd = first; fd <= std::min(last, 65536); ++fd) ::close(fd);
}

// In the child of a process that may have threads: nothing but system calls from here on.
[[noreturn]] void carry_out(const Order& order) noexcept {
  ::setsid();
  if (::chdir("/") != 0) ::_exit(1);
  const int low = std::min(order.answer_fd, order.lock_fd);
  const int high = std::max(order.answer_fd, order.lock_fd);
  close_all(0, low - 1);
  close_all(low + 1, high - 1);
  close_all(high + 1, INT_MAX);
  Answer answer;
  std::array<char, sizeof answer + kLongest> message;
  char* const bytes = message.data() + sizeof answer;
  ssize_t done = 0;
  const int fd = ::open(order.path, (order.text != nullptr ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
  if (fd >= 0) {
    answer.opened = true;
    done = order.text != nullptr ? ::write(fd, order.text, order.length) : ::read(fd, bytes, kLongest);
    if (done >= 0 && order.text != nullptr && static_cast<std::size_t>(done) != order.length) {
      errno = EIO;
      done = -1;
    }
  }
  if (fd < 0 || done < 0) answer.error = errno;
  if (done > 0 && order.text == nullptr) answer.length = static_cast<std::size_t>(done);
  std::memcpy(message.data(), &answer, sizeof answer);
  // It fits into the pipe. Without its reader the outcome is of no interest.
  ::_exit(::write(order.answer_fd, message.data(), sizeof answer + answer.length) < 0 ? 1 : 0);
}

/// Children that did not die when they were killed: reaped before the next one is made, if they have ended by then.
class LeftBehind {
 public:
  void add(pid_t pid) {
    const std::lock_guard lock(mutex_);
    pids_.push_back(pid);
  }
  void reap() {
    const std::lock_guard lock(mutex_);
    std::erase_if(pids_, [](pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) != 0; });
  }

 private:
  platform::Mutex mutex_;
  std::vector<pid_t> pids_;  // mutex_
};

LeftBehind& left_behind() {
  static LeftBehind the_left_behind;
  return the_left_behind;
}

/// All that comes until the other end is closed; false at the deadline.
bool receive(int fd, std::string& into, Deadline deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline.remaining()).count();
    pollfd readable = {.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&readable, 1, static_cast<int>(std::min<long>(left, INT_MAX)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      if (deadline.expired() || ready < 0) return false;
      continue;
    }
    std::array<char, 4096> bytes;
    const ssize_t n = ::read(fd, bytes.data(), bytes.size());
    if (n > 0) into.append(bytes.data(), static_cast<std::size_t>(n));
    if (n == 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
}

std::string deed(const std::string& path, const std::string* text) {
  if (text == nullptr) return fmt::format("reading {}", path);
  return *text == "\n" ? fmt::format("clearing {}", path) : fmt::format("writing '{}' to {}", *text, path);
}

std::unexpected<Error> not_let_go(const std::string& path, const std::string* text) {
  return fail(
      Errc::kTimeout, fmt::format("{}: the kernel has not let go of it", deed(path, text)),
      "a driver's probe or removal that does not end, or a process that has the device open, holds it; the process "
      "that waits there was killed and ends when the kernel lets it: 'dmesg', and /proc/PID/stack of processes in "
      "state D, show where");
}

}  // namespace

Result<std::string> access_attribute(const std::string& path, const std::string* text, int lock_fd, Deadline deadline) {
  left_behind().reap();
  UPCI_TRY_ASSIGN(Pipe pipe, Pipe::create());
  const Order order = {.path = path.c_str(),
                       .text = text == nullptr ? nullptr : text->data(),
                       .length = text == nullptr ? 0 : text->size(),
                       .answer_fd = pipe.write.get(),
                       .lock_fd = lock_fd < 0 ? pipe.write.get() : lock_fd};
  // No handler of this process may run in the child: it would write to descriptors that mean something else there. An
  // interrupt from the terminal does not end the child between what was asked of it and its answer either.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) carry_out(order);
  const int fork_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return fail_errno(fmt::format("{}: fork", deed(path, text)), {}, fork_error);
  pipe.write.reset();

  std::string received;
  const bool in_time = receive(pipe.read.get(), received, deadline);
  if (!in_time) {
    ::kill(pid, SIGKILL);
    left_behind().add(pid);
    return not_let_go(path, text);
  }
  ::waitpid(pid, nullptr, 0);  // its end of the pipe is closed: it has ended
  Answer answer;
  if (received.size() >= sizeof answer) std::memcpy(&answer, received.data(), sizeof answer);
  if (received.size() != sizeof answer + answer.length) {
    return fail(Errc::kSystem, fmt::format("{}: the process that was to do it was killed", deed(path, text)),
                "it may have been done or not");
  }
  if (answer.error != 0) {
    return fail_errno(answer.opened ? deed(path, text) : fmt::format("{}: open", deed(path, text)), {}, answer.error);
  }
  return received.substr(sizeof answer);
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
