// SPDX-License-Identifier: Apache-2.0
// What the requests of the control socket do.
#include <fmt/format.h>
#include <sys/stat.h>

#include <charconv>
#include <utility>
#include <vector>

#include "workqueue/control.h"
#include "workqueue/control_server.h"
#include "workqueue/engine_state.h"
#include "workqueue/snapshot.h"

namespace upci::inline UPCI_VARIANT {

namespace {

using Fields = std::vector<std::string>;

Fields split(std::string_view line) {
  Fields fields;
  for (;;) {
    const std::size_t tab = line.find('\t');
    fields.emplace_back(line.substr(0, tab));
    if (tab == std::string_view::npos) return fields;
    line.remove_prefix(tab + 1);
  }
}

Result<QueueState*> find_queue(EngineState& state, const std::string& name) {
  int number = -1;
  const bool by_number =
      name.starts_with('#') &&
      std::from_chars(name.data() + 1, name.data() + name.size(), number).ptr == name.data() + name.size();
  QueueState* found = nullptr;
  for (QueueState* queue : state.queues()) {
    if (by_number ? queue->number() != number : queue->name() != name) continue;
    if (found != nullptr) {
      return fail(Errc::kUnavailable, fmt::format("several workqueues are named '{}'", name),
                  "name it by its number, as #N; 'upci wq dump' shows the numbers");
    }
    found = queue;
  }
  if (found == nullptr) {
    return fail(Errc::kUnavailable, fmt::format("there is no workqueue '{}'", name), "'upci wq dump' lists them");
  }
  return found;
}

Result<void> set(ControlContext& context, const Fields& fields) {
  if (fields.size() < 3) return fail(Errc::kInvalid, "set: WORKQUEUE KEY=VALUE... are missing");
  UPCI_TRY_ASSIGN(const ControlChange change, parse_control_change(std::span(fields).subspan(2)));
  UPCI_TRY_ASSIGN(QueueState * queue, find_queue(context.state, fields[1]));
  // As in the kernel: what was not made to be changed from outside has no attributes in sysfs.
  if (!queue->has(kWqSysfs)) {
    return fail(Errc::kUnavailable, fmt::format("workqueue '{}' cannot be changed from outside", queue->name()),
                "its program must allocate it with kWqSysfs");
  }
  if (queue->is_ordered()) {
    return fail(Errc::kState,
                fmt::format("workqueue '{}' is ordered: its limit is 1 and its order must stay", queue->name()));
  }
  if (change.min_active && !queue->is_unbound()) {
    return fail(Errc::kState, fmt::format("workqueue '{}' is per CPU: it has no min_active", queue->name()));
  }
  if (change.attributes()) {
    if (!queue->is_unbound()) {
      return fail(Errc::kState, fmt::format("workqueue '{}' is per CPU: it can change max_active only", queue->name()),
                  "nice, cpumask and affinity are of workqueues with kWqUnbound");
    }
    UPCI_TRY_ASSIGN(WorkqueueAttrs attrs, context.engine.workqueue_attrs(*queue));
    if (change.nice) attrs.nice = *change.nice;
    if (change.cpumask) attrs.cpumask = *change.cpumask;
    if (change.scope) attrs.scope = *change.scope;
    if (change.strict) attrs.strict = *change.strict;
    UPCI_TRY(context.engine.apply_workqueue_attrs(*queue, std::move(attrs)));
  }
  if (change.max_active) UPCI_TRY(context.engine.set_max_active(*queue, *change.max_active));
  if (change.min_active) UPCI_TRY(context.engine.set_min_active(*queue, *change.min_active));
  return {};
}

Result<void> set_unbound(ControlContext& context, const Fields& fields) {
  UPCI_TRY_ASSIGN(const ControlChange change, parse_control_change(std::span(fields).subspan(1)));
  if (fields.size() != 2 || !change.cpumask) return fail(Errc::kInvalid, "unbound: only cpumask can be changed");
  return context.engine.set_unbound_cpumask(*change.cpumask);
}

Result<void> start_trace(ControlContext& context) {
  UniqueFd file = std::exchange(context.passed, UniqueFd());
  struct stat status = {};
  // A pipe that nobody reads would hold the engine up.
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(Errc::kInvalid, "trace start: no regular file came with the request");
  }
  UPCI_TRY(context.engine.start_trace(std::move(file)));
  context.traces = true;
  return {};
}

Result<std::string> stop_trace(ControlContext& context) {
  if (!std::exchange(context.traces, false)) {
    return fail(Errc::kState, "trace stop: this connection has begun no trace");
  }
  UPCI_TRY_ASSIGN(const TraceSummary summary, context.engine.stop_trace());
  return fmt::format("{{\"schema\":1,\"events\":{},\"dropped\":{}}}\n", summary.events, summary.dropped);
}

}  // namespace

Result<std::string> answer_control(ControlContext& context, std::string_view line) {
  const Fields fields = split(line);
  const std::string& command = fields.front();
  const std::string argument = fields.size() == 2 ? fields[1] : "";
  if (command == "dump" && fields.size() == 1) return dump_json(context.engine.snapshot());
  if (command == "trace" && argument == "stop") return stop_trace(context);
  if (command == "trace" && argument == "start") {
    UPCI_TRY(start_trace(context));
  } else if (command == "latency" && (argument == "on" || argument == "off")) {
    context.engine.measure_latency(argument == "on");
  } else if (command == "set") {
    UPCI_TRY(set(context, fields));
  } else if (command == "unbound") {
    UPCI_TRY(set_unbound(context, fields));
  } else {
    return fail(Errc::kInvalid, "there is no such request", "the two programs may be of different versions");
  }
  return std::string();
}

}  // namespace upci::inline UPCI_VARIANT
