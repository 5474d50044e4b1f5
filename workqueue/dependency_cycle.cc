// SPDX-License-Identifier: Apache-2.0
// Finding a cycle of waits, and saying it. Kernel: check_noncircular, print_circular_bug.
#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "base/log.h"
#include "workqueue/dependencies.h"
#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

/// One step of the search: a node, and how it was reached.
struct Dependencies::Step {
  NodeId node = 0;
  bool run = false;            // its run is waited for; else its turn as well
  std::size_t from = 0;        // the step before
  const Edge* edge = nullptr;  // a wait that was seen; nullptr: what follows from what a node is
  const char* because = "";    // then: why
};

/// A cycle, with all that its report needs: nothing here points into the graph.
struct Dependencies::Found {
  struct Side {
    WorkFunction function{nullptr};
    std::string queue = {};
    Key::Kind kind = Key::Kind::kItem;
    std::size_t who = 0;  // tells functions, or objects, apart
  };
  struct Line {
    Side from = {};
    Side to = {};
    const char* what = "";  // the call, or the reason
    bool seen = false;      // a call was seen
    StackTrace stack = {};  // of that call
  };
  std::vector<Line> lines = {};  // the first one is the wait that closes the cycle
  std::size_t participants = 0;
};

void Dependencies::note(const Key& from, const Key& to, bool run_only, const char* call) {
  std::unique_lock under(lock_);
  const NodeId a = node(from);
  const NodeId b = node(to);
  if (a == 0 || b == 0) return;
  std::vector<Edge>& out = nodes_.at(a).out;
  // A wait for the turn as well says more than one for the run.
  const auto known = std::ranges::find(out, b, &Edge::to);
  if (known != out.end() && (run_only || !known->run_only)) return;
  if (known == out.end() && nr_edges_ == kMostEdges) {
    if (!std::exchange(full_, true)) log::warn("workqueue: more than {} kinds of waits; no more are kept", kMostEdges);
    return;
  }
  const Edge edge{.to = b, .run_only = run_only, .call = call, .stack = capture_stack(2)};
  std::vector<Step> steps;
  Found found;
  const bool cycle = search(b, run_only, a, steps);
  if (cycle) found = describe(a, edge, steps);
  if (known != out.end()) {
    *known = edge;
  } else {
    out.push_back(edge);
    nr_edges_++;
  }
  if (!cycle || !reported_.insert(found.participants).second) return;
  under.unlock();
  report(std::move(found));
}

/// Whether who waits for `from` waits for the run of `to` as well: breadth first, so that the shortest cycle is told.
/// Afterwards the steps lead from the last one back to the first.
bool Dependencies::search(NodeId from, bool run_only, NodeId to, std::vector<Step>& steps) const {
  std::unordered_set<std::uint64_t> seen;
  const auto reach = [&](const Step& step) {
    if (seen.insert(std::uint64_t{step.node} << 1 | (step.run ? 1 : 0)).second) steps.push_back(step);
  };
  reach({.node = from, .run = run_only});
  for (std::size_t i = 0; i < steps.size(); i++) {
    const Step at = steps[i];
    if (at.node == to && at.run) {
      steps.resize(i + 1);
      return true;
    }
    const Node& node = nodes_.at(at.node);
    using Kind = Key::Kind;
    const auto reach_items = [&](auto wanted, bool run, const char* because) {
      for (const auto& [id, other] : nodes_) {
        if (other.key.kind == Kind::kItem && id != at.node && wanted(other.key)) {
          reach({.node = id, .run = run, .from = i, .because = because});
        }
      }
    };
    const QueueState* queue = node.key.queue;
    if (node.key.kind == Kind::kQueue) {
      reach_items([queue](const Key& key) { return key.queue == queue; }, true, "runs there");
      continue;
    }
    if (node.key.kind == Kind::kItem && queue == nullptr) {
      reach_items([&](const Key& key) { return key.queue != nullptr && key.function == node.key.function; }, at.run,
                  "is one of them");
    }
    if (at.run) {
      for (const Edge& edge : node.out) reach({.node = edge.to, .run = edge.run_only, .from = i, .edge = &edge});
      continue;
    }
    // Its turn, which another item may have, and its run.
    const bool in_turn = node.key.kind == Kind::kItem && queue != nullptr &&
                         (queue->is_ordered() || queue->max_active.load(std::memory_order_relaxed) == 1);
    if (in_turn) {
      reach_items([queue](const Key& key) { return key.queue == queue; }, true, "may have its turn");
      // Another item of its own function, too, when one of these waits for another one.
      if (i == 0 && at.node == to) {
        steps.push_back({.node = to, .run = true, .from = i, .because = "may have its turn"});
        return true;
      }
    }
    reach({.node = at.node, .run = true, .from = i, .because = ""});
  }
  return false;
}

Dependencies::Found Dependencies::describe(NodeId from, const Edge& closing, const std::vector<Step>& steps) {
  const auto side = [this](NodeId id) {
    const Key& key = nodes_.at(id).key;
    return Found::Side{.function = key.function,
                       .queue = key.queue != nullptr ? key.queue->name() : "",
                       .kind = key.kind,
                       .who = KeyHash{}({.kind = key.kind, .function = key.function, .work = key.work})};
  };
  Found found;
  std::vector<std::size_t> way;
  for (std::size_t i = steps.size() - 1;; i = steps[i].from) {
    way.push_back(i);
    if (i == 0) break;
  }
  std::ranges::reverse(way);
  found.lines.push_back(
      {.from = side(from), .to = side(closing.to), .what = closing.call, .seen = true, .stack = closing.stack});
  for (std::size_t i = 1; i < way.size(); i++) {
    const Step& step = steps[way[i]];
    if (step.edge == nullptr && *step.because == '\0') continue;
    const auto before = side(steps[way[i - 1]].node);
    if (step.edge != nullptr) {
      found.lines.push_back(
          {.from = before, .to = side(step.node), .what = step.edge->call, .seen = true, .stack = step.edge->stack});
    } else {
      found.lines.push_back({.from = before, .to = side(step.node), .what = step.because});
    }
  }
  // Who takes part, in whatever order and by whatever call: each set is reported once.
  std::unordered_set<std::size_t> members;
  for (const Found::Line& line : found.lines) {
    if (line.seen && members.insert(line.from.who).second) found.participants += line.from.who;
  }
  return found;
}

void Dependencies::report(Found found) const {
  const auto name = [](const Found::Side& side) {
    if (side.kind == Key::Kind::kQueue) return fmt::format("all items of '{}'", side.queue);
    const std::string function = name_function(side.function);
    if (side.kind == Key::Kind::kObject) return fmt::format("an item {}", function);
    return side.queue.empty() ? function : fmt::format("{} of '{}'", function, side.queue);
  };
  Report report{.kind = Report::Kind::kDependencyCycle, .caller = found.lines.front().stack};
  report.text = fmt::format("possible deadlock: {} waits for {}, which may have to wait for it in turn",
                            name(found.lines.front().from), name(found.lines.front().to));
  for (const Found::Line& line : found.lines) {
    const bool now = &line == found.lines.data();
    if (line.seen) {
      report.text += fmt::format("\n  {} waits for {} ({}, {})", name(line.from), name(line.to), line.what,
                                 now ? "now" : "seen before");
      if (!now)
        report.evidence.push_back(
            {.what = fmt::format("{} waited for {}", name(line.from), name(line.to)), .stack = line.stack});
    } else {
      report.text += fmt::format("\n  {}: {} {}", name(line.from), name(line.to), line.what);
    }
  }
  engine_.report(report);
}

}  // namespace upci::inline UPCI_VARIANT
