// SPDX-License-Identifier: Apache-2.0
// EventQueue on the real operating system: one epoll descriptor that holds a wake eventfd, a timerfd and the users' fds.
//
// Everything in it is edge-triggered, and neither the eventfd nor the timerfd is ever read: each write to the one and each
// expiry of the other makes a new edge, which the kernel keeps until one waiter has taken it. So an event costs one system
// call to send and one to receive, is never lost, and wakes one waiter (waiters of an epoll descriptor sleep exclusively).
#include "base/platform.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <climits>

namespace upci::inline UPCI_VARIANT::platform {
namespace {

constexpr std::uint64_t kWakeToken = EventQueue::kMaxToken + 1;
constexpr std::uint64_t kAlarmToken = EventQueue::kMaxToken + 2;
constexpr std::size_t kBatch = 32;

Result<void> add_to(int epoll, int fd, std::uint64_t token) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = token;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
    return fail_errno("cannot wait for descriptor " + std::to_string(fd));
  }
  return {};
}

int wait_ms(int epoll, epoll_event* buffer, int room, Nanoseconds span) noexcept {
  // Rounded up: a wait must not end before its time.
  const std::int64_t ms = (span.count() + 999'999) / 1'000'000;
  return ::epoll_wait(epoll, buffer, room, static_cast<int>(std::min<std::int64_t>(ms, INT_MAX)));
}

int wait_epoll(int epoll, epoll_event* buffer, int room, TimePoint until) noexcept {
  if (until == kNever) return ::epoll_wait(epoll, buffer, room, -1);
  const TimePoint now = Clock::now();
  if (until <= now) return ::epoll_wait(epoll, buffer, room, 0);
  const Nanoseconds span = until - now;
#if !defined(UPCI_TSAN)  // ThreadSanitizer does not know that epoll_pwait2 blocks, and would hold signals back
  timespec timeout{};
  timeout.tv_sec = static_cast<time_t>(span.count() / 1'000'000'000);
  timeout.tv_nsec = static_cast<long>(span.count() % 1'000'000'000);
  const int count = ::epoll_pwait2(epoll, buffer, room, &timeout, nullptr);
  if (count >= 0 || errno != ENOSYS) return count;
#endif
  return wait_ms(epoll, buffer, room, span);
}

}  // namespace

Result<EventQueue> EventQueue::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno("cannot create an epoll descriptor");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno("cannot create an eventfd");
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) return fail_errno("cannot create a timerfd");
  UPCI_TRY(add_to(epoll.get(), wake.get(), kWakeToken));
  UPCI_TRY(add_to(epoll.get(), timer.get(), kAlarmToken));
  return EventQueue(std::move(epoll), std::move(wake), std::move(timer));
}

EventQueue::EventQueue(UniqueFd epoll, UniqueFd wake, UniqueFd timer)
    : epoll_(std::move(epoll)), wake_(std::move(wake)), timer_(std::move(timer)) {}

Result<void> EventQueue::add(int fd, std::uint64_t token) {
  if (token > kMaxToken) return fail(Errc::kInvalid, "the token is one of the event queue's own");
  return add_to(epoll_.get(), fd, token);
}

Result<void> EventQueue::remove(int fd) {
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) != 0) {
    return fail_errno("cannot stop to wait for descriptor " + std::to_string(fd));
  }
  return {};
}

// Each record makes the perf descriptor readable once: an edge.
Result<void> EventQueue::add(const SwitchWatch& watch, std::uint64_t token) { return add(watch.event_.get(), token); }
Result<void> EventQueue::remove(const SwitchWatch& watch) { return remove(watch.event_.get()); }

void EventQueue::notify() noexcept {
  const int saved_errno = errno;
  const std::uint64_t one = 1;
  // Cannot fill up: 2^64 notifications are not lived to see. Async-signal-safe.
  while (::write(wake_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {}
  errno = saved_errno;
}

void EventQueue::set_alarm(TimePoint when) noexcept {
  itimerspec spec{};  // all 0 disarms
  if (when != kNever) {
    const std::int64_t ns = std::max<std::int64_t>(1, when.time_since_epoch().count());
    spec.it_value.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
    spec.it_value.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  }
  // Setting it also takes back an expiry that no waiter has seen yet: epoll asks the timerfd again before it reports.
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr);
}

EventWait EventQueue::wait(std::span<Event> events, TimePoint until) noexcept {
  assert(!events.empty());
  std::array<epoll_event, kBatch> buffer;
  const int room = static_cast<int>(std::clamp<std::size_t>(events.size(), 1, kBatch));
  EventWait result;
  for (;;) {
    const int count = wait_epoll(epoll_.get(), buffer.data(), room, until);
    if (count > 0) {
      for (const epoll_event& event : std::span(buffer).first(static_cast<std::size_t>(count))) {
        if (event.data.u64 == kWakeToken) {
          result.notified = true;
        } else if (event.data.u64 == kAlarmToken) {
          result.alarm = true;
        } else if (result.events < events.size()) {
          events[result.events++].token = event.data.u64;
        }
      }
      return result;
    }
    // Interrupted, or (count == 0) the kernel's idea of the span ended a little before ours.
    if (until != kNever && Clock::now() >= until) {
      result.timed_out = true;
      return result;
    }
  }
}

}  // namespace upci::inline UPCI_VARIANT::platform
