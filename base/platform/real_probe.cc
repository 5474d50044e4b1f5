// SPDX-License-Identifier: Apache-2.0
// ThreadProbe on Linux: /proc/self/task/T and the thread's CPU clock.
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::platform {
namespace {

UniqueFd open_task_file(ThreadId thread, const char* name) {
  const std::string path = "/proc/self/task/" + std::to_string(thread) + "/" + name;
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

/// The file's beginning, as much as fits; empty when it cannot be read (the thread has ended).
std::string_view read_start(int fd, std::span<char> buffer) noexcept {
  const ssize_t count = ::pread(fd, buffer.data(), buffer.size(), 0);
  return count > 0 ? std::string_view(buffer.data(), static_cast<std::size_t>(count)) : std::string_view();
}

// The kernel's number for the CPU clock of one thread (include/linux/posix-timers.h): the complement of its id, shifted,
// and in the low bits "of a thread" and "as the scheduler counts".
clockid_t cpu_clock_of(ThreadId thread) noexcept {
  return static_cast<clockid_t>((~static_cast<unsigned>(thread) << 3U) | 6U);
}

struct CallName {
  long number;
  const char* name;
};
constexpr auto kCallNames = std::to_array<CallName>({
    {SYS_read, "read"},
    {SYS_write, "write"},
    {SYS_readv, "readv"},
    {SYS_writev, "writev"},
    {SYS_pread64, "pread64"},
    {SYS_pwrite64, "pwrite64"},
    {SYS_ioctl, "ioctl"},
    {SYS_fsync, "fsync"},
    {SYS_fdatasync, "fdatasync"},
    {SYS_openat, "openat"},
    {SYS_close, "close"},
    {SYS_futex, "futex"},
    {SYS_nanosleep, "nanosleep"},
    {SYS_clock_nanosleep, "clock_nanosleep"},
    {SYS_ppoll, "ppoll"},
    {SYS_pselect6, "pselect6"},
    {SYS_epoll_pwait, "epoll_pwait"},
    {SYS_epoll_pwait2, "epoll_pwait2"},
    {SYS_accept4, "accept4"},
    {SYS_connect, "connect"},
    {SYS_sendto, "sendto"},
    {SYS_recvfrom, "recvfrom"},
    {SYS_sendmsg, "sendmsg"},
    {SYS_recvmsg, "recvmsg"},
    {SYS_wait4, "wait4"},
    {SYS_waitid, "waitid"},
    {SYS_flock, "flock"},
#if defined(SYS_poll)
    {SYS_poll, "poll"},
    {SYS_select, "select"},
    {SYS_epoll_wait, "epoll_wait"},
    {SYS_accept, "accept"},
    {SYS_open, "open"},
#endif
});

std::string call_name(std::string_view syscall_file) {
  // "number arguments... sp pc" of a thread in a call; "-1 sp pc" outside of one (a page fault, say); "running".
  long number = -1;
  const auto parsed = std::from_chars(syscall_file.data(), syscall_file.data() + syscall_file.size(), number);
  if (parsed.ec != std::errc() || number < 0) return {};
  const auto found = std::find_if(kCallNames.begin(), kCallNames.end(),
                                  [number](const CallName& call) { return call.number == number; });
  return found != kCallNames.end() ? found->name : "system call " + std::to_string(number);
}

}  // namespace

Result<ThreadProbe> ThreadProbe::open(ThreadId thread) {
  UniqueFd stat = open_task_file(thread, "stat");
  if (!stat) {
    return fail_errno("cannot look at the thread " + std::to_string(thread) + " in /proc/self/task",
                      errno == ENOENT ? "it has ended, or /proc is not mounted" : "raise the limit on open files");
  }
  return ThreadProbe(thread, std::move(stat), open_task_file(thread, "schedstat"));
}

ThreadProbe::ThreadProbe(ThreadId thread, UniqueFd stat, UniqueFd schedstat) noexcept
    : thread_(thread), stat_(std::move(stat)), schedstat_(std::move(schedstat)) {}

Nanoseconds ThreadProbe::cpu_time() const noexcept {
  const int saved_errno = errno;
  timespec used{};
  if (::clock_gettime(cpu_clock_of(thread_), &used) != 0) used = {};
  errno = saved_errno;
  return std::chrono::seconds(used.tv_sec) + Nanoseconds(used.tv_nsec);
}

Nanoseconds ThreadProbe::queue_wait() const noexcept {
  // "CPU time, time in the run queue (both in ns), number of turns"
  if (!schedstat_) return {};
  const int saved_errno = errno;
  std::array<char, 96> buffer;
  const std::string_view text = read_start(schedstat_.get(), buffer);
  errno = saved_errno;
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos) return {};
  std::int64_t waited = 0;
  std::from_chars(text.data() + space + 1, text.data() + text.size(), waited);
  return Nanoseconds(waited);
}

bool ThreadProbe::asleep() const noexcept {
  // "id (name) state ...": a name of at most 15 characters, in which anything may stand.
  const int saved_errno = errno;
  std::array<char, 64> buffer;
  const std::string_view text = read_start(stat_.get(), buffer);
  errno = saved_errno;
  const std::size_t end = text.rfind(") ");
  if (end == std::string_view::npos || end + 2 >= text.size()) return false;
  const char state = text[end + 2];
  return state == 'S' || state == 'D';
}

std::string ThreadProbe::where() const {
  std::array<char, 256> buffer;
  if (const UniqueFd file = open_task_file(thread_, "wchan")) {
    const std::string_view text = read_start(file.get(), buffer);
    if (!text.empty() && text != "0") return std::string(text);
  }
  if (const UniqueFd file = open_task_file(thread_, "syscall")) return call_name(read_start(file.get(), buffer));
  return {};
}

}  // namespace upci::inline UPCI_VARIANT::platform
