// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/netdev.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

Netdev datagram(int fd) {
  Netdev netdev;
  netdev.arguments = {"-netdev", fmt::format("dgram,id=wire0,local.type=fd,local.str={}", Netdev::kFirstFd)};
  netdev.fds = {fd};
  return netdev;
}

/// One queue of a tap interface. Linux: Documentation/networking/tuntap.rst.
Result<UniqueFd> open_tap_queue(const WireSpec& wire) {
  UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return fail_errno("cannot open /dev/net/tun", "load the tun module");
  ifreq request{};
  if (wire.name.size() >= sizeof(request.ifr_name)) {
    return fail(Errc::kInvalid, "the name of a network interface is too long: " + wire.name,
                fmt::format("use fewer than {} letters", sizeof(request.ifr_name)));
  }
  std::memcpy(request.ifr_name, wire.name.data(), wire.name.size());
  const unsigned flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (wire.queues > 1 ? IFF_MULTI_QUEUE : 0U);
  request.ifr_flags = static_cast<short>(flags);
  if (::ioctl(fd.get(), TUNSETIFF, &request) == 0) return fd;
  const int error = errno;
  errno = error;
  return fail_errno("cannot attach to wire=tap:" + wire.name,
                    error == EPERM ? "make it first and give it to this user: ip tuntap add dev NAME mode tap user USER"
                    : error == EINVAL
                        ? "an interface of that name is no tap, or was made with other flags: one with several "
                          "queues is made with multi_queue"
                        : "somebody else uses it");
}

Result<Netdev> tap(const WireSpec& wire) {
  Netdev netdev;
  std::vector<int> numbers;
  for (unsigned queue = 0; queue < wire.queues; queue++) {
    UPCI_TRY_ASSIGN(UniqueFd fd, open_tap_queue(wire));
    numbers.push_back(Netdev::kFirstFd + static_cast<int>(queue));
    netdev.fds.push_back(fd.get());
    netdev.owned.push_back(std::move(fd));
  }
  netdev.arguments = {
      "-netdev", fmt::format("tap,id=wire0,vhost=off,{}={}", wire.queues > 1 ? "fds" : "fd", fmt::join(numbers, ":"))};
  return netdev;
}

/// A connected socket: so that a server that is not there is an error here, and not one of QEMU's words.
Result<Netdev> vhost_user(const WireSpec& wire) {
  sockaddr_un server{};
  server.sun_family = AF_UNIX;
  if (wire.name.size() >= sizeof(server.sun_path)) {
    return fail(Errc::kInvalid, "the socket's path is too long: " + wire.name,
                fmt::format("use a path of fewer than {} bytes", sizeof(server.sun_path)));
  }
  std::memcpy(server.sun_path, wire.name.data(), wire.name.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno("cannot create a socket for wire=vhost-user:" + wire.name);
  const void* const address = &server;
  if (::connect(fd.get(), static_cast<const sockaddr*>(address), sizeof(server)) != 0) {
    return std::unexpected(Error{.code = Errc::kUnavailable,
                                 .what = "cannot connect to wire=vhost-user:" + wire.name,
                                 .advice = "start the vhost-user backend first, as the server of this socket",
                                 .sys_errno = errno});
  }
  Netdev netdev;
  netdev.arguments = {"-chardev", fmt::format("socket,id=vhost-socket,fd={}", Netdev::kFirstFd), "-netdev",
                      fmt::format("vhost-user,id=wire0,chardev=vhost-socket,queues={}", wire.queues)};
  netdev.fds = {fd.get()};
  netdev.owned.push_back(std::move(fd));
  return netdev;
}

}  // namespace

Result<Netdev> make_netdev(const WireSpec& wire, Cables& cables) {
  switch (wire.kind) {
    case WireSpec::Kind::kTap: return tap(wire);
    case WireSpec::Kind::kVhostUser: return vhost_user(wire);
    case WireSpec::Kind::kLoopback: {
      UPCI_TRY_ASSIGN(auto reflector, Reflector::create());
      Netdev netdev = datagram(reflector->device_fd());
      netdev.reflector = std::move(reflector);
      return netdev;
    }
    case WireSpec::Kind::kCable:
    case WireSpec::Kind::kUnix: break;
  }
  UPCI_TRY_ASSIGN(UniqueFd fd, open_wire(wire, cables));
  Netdev netdev = datagram(fd.get());
  netdev.owned.push_back(std::move(fd));
  return netdev;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
