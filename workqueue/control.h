// SPDX-License-Identifier: Apache-2.0
// The control socket: how `upci wq` looks into a running process and changes its workqueues. This is what both ends share.
//
// An engine that serves one (Engine::Options::control, Engine::serve_control) listens on <directory>/<pid>.<n>.sock, one for
// each engine of the process, in the first of control_directories() that can be used. Only the same user and root may
// connect. A request is a line of fields with tabs between them; the answer is a line "ok LENGTH" or "error CODE LENGTH",
// and LENGTH bytes: a JSON document or nothing; or what went wrong, and on a second line what to do about it.
//
//   dump                       the engine as it is: what EngineSnapshot holds
//   set WORKQUEUE KEY=VALUE... changes a queue that has kWqSysfs; by its name, or #NUMBER
//   unbound cpumask=LIST       Engine::set_unbound_cpumask
//   latency on|off             Engine::measure_latency
//   trace start                Engine::start_trace into the regular file whose descriptor came with the request (SCM_RIGHTS)
//   trace stop                 writes it, as does the end of the connection
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "workqueue/attributes.h"

namespace upci::inline UPCI_VARIANT {

/// Where sockets of processes of this user are looked for, the best first: $XDG_RUNTIME_DIR/upci, /run/upci (root's),
/// /tmp/upci-<uid>.
std::vector<std::string> control_directories();

/// What `set` changes; the rest stays as it is.
struct ControlChange {
  std::optional<int> max_active;
  std::optional<int> min_active;
  std::optional<int> nice;
  std::optional<CpuSet> cpumask;
  std::optional<AffinityScope> scope;
  std::optional<bool> strict;

  bool attributes() const noexcept { return nice || cpumask || scope || strict; }
};

/// "max_active=4", "nice=-5", "cpumask=0-3,8", "affinity_scope=cache", "affinity_strict=1", each at most once.
/// Errors: kInvalid.
Result<ControlChange> parse_control_change(std::span<const std::string> pairs);

}  // namespace upci::inline UPCI_VARIANT
