// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/netdev.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

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

/// QEMU connects by itself: over a socket that it inherits it passes no descriptors on, and with them go the rings.
Result<Netdev> vhost_user(const WireSpec& wire) {
  struct stat status{};
  if (::stat(wire.name.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) {
    return fail(Errc::kUnavailable, "there is no socket at wire=vhost-user:" + wire.name,
                "start the vhost-user backend first, as the server of this socket");
  }
  std::string path;
  for (const char c : wire.name) path.append(c == ',' ? 2U : 1U, c);
  Netdev netdev;
  netdev.arguments = {"-chardev", fmt::format("socket,id=vhost-socket,path={}", path), "-netdev",
                      fmt::format("vhost-user,id=wire0,chardev=vhost-socket,queues={}", wire.queues)};
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
