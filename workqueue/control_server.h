// SPDX-License-Identifier: Apache-2.0
// The engine's end of the control socket. What it says: control.h.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "workqueue/engine.h"

namespace upci::inline UPCI_VARIANT {

/// Serves an engine until it is destroyed. The socket and each connection are event sources of the engine itself, on a
/// housekeeping CPU; what they ask for is done by items of an unbound workqueue of its own, one for each connection.
class ControlServer {
 public:
  /// Errors: kUnavailable (no directory for the socket; in the simulation), kSystem.
  static Result<std::unique_ptr<ControlServer>> start(Engine& engine, EngineState& state);
  virtual ~ControlServer() = default;
  /// Where it listens.
  virtual const std::string& path() const noexcept = 0;
};

/// What one connection has to go with its requests.
struct ControlContext {
  Engine& engine;
  EngineState& state;
  UniqueFd passed = {};  // the descriptor that came last
  bool traces = false;   // this connection began the trace that is being recorded
};

/// Does what a line asks for. The JSON document of the answer, or "".
Result<std::string> answer_control(ControlContext& context, std::string_view line);
/// The engine as JSON, schema 1.
std::string dump_json(const EngineSnapshot& shot);

}  // namespace upci::inline UPCI_VARIANT
