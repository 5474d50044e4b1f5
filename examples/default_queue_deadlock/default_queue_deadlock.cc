// SPDX-License-Identifier: Apache-2.0
// One item sleeps for what a later item of the same queue would give. With a thread pool of a fixed size that is a deadlock.
//   On a queue that is bound to a CPU it resolves by itself: the sleeper no longer counts, so the next item starts.
//   On an ordered queue it cannot: then it is named, with both items. By the watchdog while it hangs, and by the record of
//   who waited for whom once the two have met in the harmless order.
//
//   build/bin/default_queue_deadlock
#include <cstdio>
#include <string>

#include "base/wait.h"
#include "workqueue/engine.h"

using namespace upci;
using namespace std::chrono_literals;

struct Pair {
  void take(Work&) { taken = given.wait(Deadline::after(2s)); }
  void give(Work&) { given.complete(); }
  Completion given;
  bool taken = false;
  Work taker{this, &Pair::take};
  Work giver{this, &Pair::give};
};

static void run(Engine& engine, Workqueue& wq, Pair& pair, bool giver_first) {
  const int cpu = engine.topology().cpus().front().id;
  engine.queue_work_on(cpu, wq, giver_first ? pair.giver : pair.taker);
  engine.queue_work_on(cpu, wq, giver_first ? pair.taker : pair.giver);
  engine.flush_workqueue(wq);
}

// Told by several threads: each keeps to its own flag.
static platform::Atomic<bool> stall_named{false};
static platform::Atomic<bool> cycle_named{false};

static void tell(const Report& report) {
  const std::string text = report.to_text();
  const bool both = text.find("Pair::take") != std::string::npos && text.find("Pair::give") != std::string::npos;
  if (report.kind == Report::Kind::kStall) stall_named.store(stall_named.load() || both);
  if (report.kind == Report::Kind::kDependencyCycle) cycle_named.store(cycle_named.load() || both);
  std::printf("--- report (%s)\n%s\n---\n", std::string(to_string(report.kind)).c_str(), text.c_str());
}

int main() {
  auto topology = Topology::detect();
  if (!topology) return 1;
  Engine::Options options{.topology = std::move(*topology)};
  options.watchdog = 200ms;  // 30 s by default
  options.track_dependencies = DependencyTracking::kCompletions;
  options.report = tell;
  auto created = Engine::create(std::move(options));
  if (!created) return 1;
  Engine& engine = **created;
  auto bound = engine.alloc_workqueue("bound", kWqPercpu);
  auto ordered = engine.alloc_ordered_workqueue("ordered");
  if (!bound || !ordered) return 1;

  Pair a, b, c;
  run(engine, **bound, a, false);
  std::printf("bound queue: the sleeper %s\n", a.taken ? "got what it slept for" : "slept in vain");
  run(engine, **ordered, b, true);
  std::puts("ordered queue, the giver first: no deadlock this time");
  run(engine, **ordered, c, false);
  std::printf("ordered queue, the giver last: the sleeper %s\n", c.taken ? "got it?" : "slept in vain, for 2 s");

  // The watchdog tells in its own time.
  for (int i = 0; i < 1000 && !stall_named.load(); i++) sleep_for(10ms);
  const bool named = stall_named.load() && cycle_named.load();
  if (a.taken && !c.taken && named) std::puts("the watchdog and the record of waits named both items");
  return a.taken && named ? 0 : 1;
}
