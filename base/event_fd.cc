// SPDX-License-Identifier: Apache-2.0
#include "base/event_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

Result<EventFd> EventFd::create() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) return fail_errno("cannot create an eventfd", "raise the limit on open files (ulimit -n)");
  return EventFd(std::move(fd));
}

void EventFd::signal() const noexcept {
  const std::uint64_t one = 1;
  // A full counter (EAGAIN) is readable all the same: whoever waits is told.
  while (::write(fd_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {}
  platform::fd_signalled();
}

std::uint64_t EventFd::drain() const noexcept {
  std::uint64_t count = 0;
  for (;;) {
    const ssize_t got = ::read(fd_.get(), &count, sizeof(count));
    if (got == static_cast<ssize_t>(sizeof(count))) return count;
    if (got < 0 && errno == EINTR) continue;
    return 0;
  }
}

}  // namespace upci::inline UPCI_VARIANT
