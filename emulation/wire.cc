// SPDX-License-Identifier: Apache-2.0
#include "emulation/wire.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <utility>

namespace upci::inline UPCI_VARIANT::emulation {
namespace {

constexpr std::uint16_t kMostQueues = 256;  // what tun has
constexpr int kSocketType = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

/// Room for a full queue of frames, as far as the system grants it: what does not fit waits in the sender's queue.
void widen(int fd) noexcept {
  const int bytes = 1 << 20;
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

Result<UniqueFd> connect_unix(const std::string& path) {
  sockaddr_un peer{};
  peer.sun_family = AF_UNIX;
  if (path.size() >= sizeof(peer.sun_path)) {
    return fail(Errc::kInvalid, "the socket's path is too long: " + path,
                "use a path of fewer than " + std::to_string(sizeof(peer.sun_path)) + " bytes");
  }
  std::memcpy(peer.sun_path, path.data(), path.size());

  UniqueFd fd(::socket(AF_UNIX, kSocketType, 0));
  if (!fd) return fail_errno("cannot create a socket for wire=unix:" + path);
  widen(fd.get());
  // An address of the family alone asks the kernel for a unique one: without an address the other side could not
  // answer.
  sockaddr_un own{};
  own.sun_family = AF_UNIX;
  const void* const own_address = &own;
  if (::bind(fd.get(), static_cast<const sockaddr*>(own_address), sizeof(own.sun_family)) != 0) {
    return fail_errno("cannot bind a socket for wire=unix:" + path);
  }
  const void* const peer_address = &peer;
  if (::connect(fd.get(), static_cast<const sockaddr*>(peer_address), sizeof(peer)) != 0) {
    return std::unexpected(Error{.code = Errc::kUnavailable,
                                 .what = "cannot connect to wire=unix:" + path,
                                 .advice = "bind a datagram socket at this path first",
                                 .sys_errno = errno});
  }
  return fd;
}

/// NAME[:QUEUES].
Result<WireSpec> with_queues(std::string_view text) {
  WireSpec spec;
  const std::size_t colon = text.rfind(':');
  spec.name = text.substr(0, colon);
  if (colon != std::string_view::npos) {
    const std::string_view digits = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), spec.queues);
    if (error != std::errc() || end != digits.data() + digits.size() || spec.queues == 0 || spec.queues > kMostQueues) {
      return fail(Errc::kInvalid, "'" + std::string(digits) + "' is no number of queues",
                  "say 1 to " + std::to_string(kMostQueues));
    }
  }
  if (spec.name.empty() || spec.name.find('\0') != std::string::npos) {
    return fail(Errc::kInvalid, "a wire without a name, or with a zero byte in it",
                "say which: tap:NAME[:QUEUES] or vhost-user:PATH[:QUEUES]");
  }
  return spec;
}

}  // namespace

Result<WireSpec> WireSpec::parse(std::string_view text) {
  constexpr std::string_view kCablePrefix = "cable:";
  constexpr std::string_view kUnixPrefix = "unix:";
  WireSpec spec;
  if (text == "loopback") return spec;
  if (text.starts_with(kCablePrefix) && text.size() > kCablePrefix.size()) {
    spec.kind = Kind::kCable;
    spec.name = text.substr(kCablePrefix.size());
    return spec;
  }
  if (text.starts_with(kUnixPrefix) && text.size() > kUnixPrefix.size()) {
    spec.kind = Kind::kUnix;
    spec.name = text.substr(kUnixPrefix.size());
    if (spec.name.find('\0') != std::string::npos)
      return fail(Errc::kInvalid, "the socket's path contains a zero byte");
    return spec;
  }
  for (const auto& [prefix, kind] : {std::pair(std::string_view("tap:"), Kind::kTap),
                                     std::pair(std::string_view("vhost-user:"), Kind::kVhostUser)}) {
    if (!text.starts_with(prefix) || text.size() == prefix.size()) continue;
    UPCI_TRY_ASSIGN(spec, with_queues(text.substr(prefix.size())));
    spec.kind = kind;
    return spec;
  }
  return fail(Errc::kInvalid, "'" + std::string(text) + "' is no wire",
              "a wire is loopback, cable:NAME, unix:PATH, tap:NAME[:QUEUES] or vhost-user:PATH[:QUEUES]");
}

Result<UniqueFd> Cables::take_end(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = free_ends_.find(name);
  if (found != free_ends_.end()) {
    if (!found->second) {
      return fail(Errc::kInvalid, "both ends of the cable '" + name + "' are taken",
                  "a cable connects two devices; give the third another name");
    }
    return std::move(found->second);
  }
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, kSocketType, 0, ends) != 0) return fail_errno("cannot create the cable '" + name + "'");
  UniqueFd taken(ends[0]);
  UniqueFd kept(ends[1]);
  widen(taken.get());
  widen(kept.get());
  free_ends_.emplace(name, std::move(kept));
  return taken;
}

std::vector<std::string> Cables::dangling() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, end] : free_ends_) {
    if (end) names.push_back(name);
  }
  return names;
}

Result<UniqueFd> open_wire(const WireSpec& spec, Cables& cables) {
  switch (spec.kind) {
    case WireSpec::Kind::kLoopback: return UniqueFd();
    case WireSpec::Kind::kCable: return cables.take_end(spec.name);
    case WireSpec::Kind::kUnix: return connect_unix(spec.name);
    case WireSpec::Kind::kTap:
    case WireSpec::Kind::kVhostUser: break;
  }
  return fail(Errc::kInvalid, "an in-process device has no such wire",
              "tap: is for qemu:; this one takes loopback, cable:NAME, unix:PATH or vhost-user:PATH");
}

}  // namespace upci::inline UPCI_VARIANT::emulation
