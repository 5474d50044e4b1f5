// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/doorbell.h"

#include <endian.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

constexpr std::int64_t kProtocolVersion = 0;
constexpr std::int64_t kSharedMemory = -1;
/// The ivshmem device's own number. Not 0: an MSI message is 16 bits wide, so its peer, the upper half, can only be 0.
constexpr std::int64_t kDeviceItself = 1;
constexpr std::uint32_t kLastPeer = 0xffff;
constexpr std::size_t kSharedBytes = 4096;

}  // namespace

Result<Doorbell> Doorbell::create() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("cannot make a socket pair");
  Doorbell doorbell{UniqueFd(ends[0]), UniqueFd(ends[1])};
  // The device insists on shared memory. Nobody uses it.
  const UniqueFd shared(::memfd_create("upci-ivshmem", MFD_CLOEXEC));
  if (!shared || ::ftruncate(shared.get(), kSharedBytes) != 0) return fail_errno("cannot make ivshmem's memory");
  const Deadline deadline = Deadline::after(std::chrono::seconds(1));  // an empty socket takes three messages at once
  UPCI_TRY(doorbell.send(kProtocolVersion, -1, deadline));
  UPCI_TRY(doorbell.send(kDeviceItself, -1, deadline));
  UPCI_TRY(doorbell.send(kSharedMemory, shared.get(), deadline));
  return doorbell;
}

Result<std::uint16_t> Doorbell::new_peer() {
  if (next_peer_ > kLastPeer) {
    return fail(Errc::kUnavailable, "interrupts have been routed 65534 times: QEMU can tell no more routings apart",
                "open the device again");
  }
  return static_cast<std::uint16_t>(next_peer_++);
}

Result<void> Doorbell::add_vector(std::uint16_t peer, int eventfd, Deadline deadline) {
  return send(peer, eventfd, deadline);
}

Result<void> Doorbell::remove_peer(std::uint16_t peer, Deadline deadline) { return send(peer, -1, deadline); }

Result<void> Doorbell::send(std::int64_t message, int fd, Deadline deadline) {
  std::uint64_t bytes = htole64(static_cast<std::uint64_t>(message));
  iovec data{.iov_base = &bytes, .iov_len = sizeof(bytes)};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof(int));
  }
  for (;;) {
    // Eight bytes go at once or not at all: a socket's buffer is never so full that it would take a part of them.
    const ssize_t sent = ::sendmsg(server_end_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == static_cast<ssize_t>(sizeof(bytes))) return {};
    if (sent >= 0) return fail(Errc::kSystem, "a message to QEMU's ivshmem device was cut short");
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return fail_errno("cannot tell QEMU of an interrupt's eventfd");
    if (deadline.expired()) return fail(Errc::kTimeout, "QEMU does not take the eventfds of the interrupts");
    pollfd entry{.fd = server_end_.get(), .events = POLLOUT, .revents = 0};
    const std::int64_t ms = deadline.is_bounded() ? deadline.remaining().count() / 1'000'000 + 1 : INT_MAX;
    ::poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(ms, INT_MAX)));
  }
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
