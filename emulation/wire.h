// SPDX-License-Identifier: Apache-2.0
// What an emulated network device's cable is plugged into. Each end is a datagram socket that carries whole frames.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT::emulation {

struct WireSpec {
  enum class Kind : std::uint8_t { kLoopback, kCable, kUnix, kTap, kVhostUser };
  Kind kind = Kind::kLoopback;
  std::string name = {};     // the cable's or interface's name, or the socket's path
  std::uint16_t queues = 1;  // tap and vhost-user: queue pairs at the other end
  /// "loopback", "cable:NAME", "unix:PATH", "tap:NAME[:QUEUES]", "vhost-user:PATH[:QUEUES]". Errors: kInvalid, naming what is
  /// allowed.
  static Result<WireSpec> parse(std::string_view text);
};

/// Cables by name, shared by the devices of one command. Thread-safe.
class Cables {
 public:
  /// The next free end of the cable. Errors: kInvalid when both ends are taken, kSystem.
  Result<UniqueFd> take_end(const std::string& name);
  /// Names of cables with only one end taken: frames sent there go nowhere.
  std::vector<std::string> dangling() const;

 private:
  mutable platform::Mutex mutex_;
  std::map<std::string, UniqueFd> free_ends_;  // mutex_; an invalid fd means both ends are taken
};

/// The device's end of the wire: a non-blocking datagram socket, or none for loopback (the device sends back to itself, or
/// its backend does). A unix: wire connects to a datagram socket that somebody has bound at the path, from an
/// automatically bound address, so that the other side can answer. Errors: kUnavailable when nobody listens there; kInvalid for
/// tap:, which is QEMU's (qemu/netdev.h), and vhost-user:, which is no such socket.
Result<UniqueFd> open_wire(const WireSpec& spec, Cables& cables);

}  // namespace upci::inline UPCI_VARIANT::emulation
