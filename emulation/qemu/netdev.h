// SPDX-License-Identifier: Apache-2.0
// What stands behind the network card of a QEMU: its -netdev.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "emulation/device_spec.h"
#include "emulation/qemu/reflector.h"
#include "emulation/wire.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

/// The backend with the id "wire0", while QEMU is started.
struct Netdev {
  static constexpr int kFirstFd = 7;  // the number that the first of fds has in QEMU; the others follow
  std::vector<std::string> arguments;
  std::vector<int> fds;  // what QEMU inherits; owned by the following two
  std::vector<UniqueFd> owned;
  std::unique_ptr<Reflector> reflector;  // of a loopback wire: it goes on with the backend
};

/// Loopback and cables are datagram sockets; tap is an interface of this network namespace, made where there is none (that
/// takes CAP_NET_ADMIN) and with the virtio header, so that the card has offloads; vhost-user is somebody's socket, whose
/// server must listen: QEMU connects to it. Errors: kUnavailable, kPermission, kInvalid, kSystem, each with what to do.
Result<Netdev> make_netdev(const WireSpec& wire, Cables& cables);

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
