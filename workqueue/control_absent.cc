// SPDX-License-Identifier: Apache-2.0
// The simulated variant has no sockets.
#include "workqueue/control_server.h"

namespace upci::inline UPCI_VARIANT {

Result<std::unique_ptr<ControlServer>> ControlServer::start(Engine&, EngineState&) {
  return fail(Errc::kUnavailable, "a simulated engine serves no control socket");
}

}  // namespace upci::inline UPCI_VARIANT
