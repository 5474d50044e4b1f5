// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/reflector.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <span>
#include <vector>

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

/// Above the largest frame that QEMU sends (64 KiB and a header).
constexpr std::size_t kLargestFrame = 128 * 1024;
/// Room for bursts in each direction; the kernel may grant less.
constexpr int kSocketBuffer = 1 << 20;
/// After so many frames it looks at what else there is to do.
constexpr int kBurst = 64;

enum class Sent { kYes, kNotNow, kNever };

Sent send_frame(int fd, std::span<const std::byte> frame) noexcept {
  for (;;) {
    if (::send(fd, frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return Sent::kYes;
    if (errno == EINTR) continue;
    // ENOBUFS: the kernel is short of memory for the moment.
    return errno == EAGAIN || errno == ENOBUFS ? Sent::kNotNow : Sent::kNever;
  }
}

}  // namespace

Result<std::unique_ptr<Reflector>> Reflector::create() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("cannot make a wire");
  UniqueFd own(ends[0]);
  UniqueFd device(ends[1]);
  for (const int fd : ends) {
    // What the kernel grants is enough; more is only faster.
    static_cast<void>(::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSocketBuffer, sizeof(kSocketBuffer)));
  }
  UPCI_TRY_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<Reflector> reflector(new Reflector(std::move(own), std::move(device), std::move(stop)));
  UPCI_TRY_ASSIGN(reflector->thread_,
                  platform::Thread::create({.name = "upci-reflector"}, [self = reflector.get()] { self->run(); }));
  return reflector;
}

Reflector::~Reflector() {
  if (!thread_.joinable()) return;
  stop_.signal();
  thread_.join();
}

void Reflector::run() {
  std::vector<std::byte> buffer(kLargestFrame);
  std::deque<std::vector<std::byte>> held;
  for (;;) {
    // A socket pair is writable while its own send buffer has room, so POLLOUT is asked for only when a frame waits.
    std::array<pollfd, 2> wanted{
        {{.fd = stop_.fd(), .events = POLLIN, .revents = 0}, {.fd = own_end_.get(), .events = 0, .revents = 0}}};
    if (held.size() < kMaxHeld) wanted[1].events |= POLLIN;
    if (!held.empty()) wanted[1].events |= POLLOUT;
    if (::poll(wanted.data(), wanted.size(), -1) < 0) continue;  // EINTR
    if (wanted[0].revents != 0) return;

    while (!held.empty()) {
      const Sent sent = send_frame(own_end_.get(), held.front());
      if (sent == Sent::kNotNow) break;
      if (sent == Sent::kNever) return;  // the other side has closed: nobody will ever read or write there again
      held.pop_front();
    }
    for (int i = 0; i < kBurst && held.size() < kMaxHeld; ++i) {
      const ssize_t got = ::recv(own_end_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got < 0) {
        if (errno == EAGAIN || errno == EINTR) break;
        return;
      }
      const std::span<const std::byte> frame(buffer.data(), static_cast<std::size_t>(got));
      const Sent sent = held.empty() ? send_frame(own_end_.get(), frame) : Sent::kNotNow;
      if (sent == Sent::kNever) return;
      if (sent == Sent::kNotNow) held.emplace_back(frame.begin(), frame.end());
    }
  }
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
