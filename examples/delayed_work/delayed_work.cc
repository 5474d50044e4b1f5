// SPDX-License-Identifier: Apache-2.0
// Work for later, and work that comes again and again: a time-out that is put off, and a tick that arms itself.
//
//   build/bin/delayed_work
#include <chrono>
#include <cstdio>

#include "base/wait.h"
#include "workqueue/engine.h"

using namespace upci;
using namespace std::chrono_literals;

// A watchdog as drivers have them: each sign of life puts it off.
struct Timeout {
  void expired(Work&) {
    std::puts("no sign of life for 40 ms: the time-out ran");
    done.complete();
  }
  Completion done;
  DelayedWork work{this, &Timeout::expired};
};

// Periodic: the function arms its own timer again. The kernel has no other way either, and needs none.
struct Tick {
  void tick(Work&) {
    std::printf("tick %d\n", ++ticks);
    if (ticks == 5) return five.complete();
    // What is pending is left as it is; so it may be called by anybody at any time, with only one tick to come.
    engine.schedule_delayed_work(work, 10ms);
  }
  explicit Tick(Engine& its_engine) : engine(its_engine) {}
  Engine& engine;
  int ticks = 0;  // runs of one work never overlap: no lock
  Completion five;
  DelayedWork work{this, &Tick::tick};
};

int main() {
  auto created = Engine::create();
  if (!created) return 1;
  Engine& engine = **created;

  Timeout timeout;
  engine.schedule_delayed_work(timeout.work, 40ms);
  for (int i = 0; i < 4; i++) {
    sleep_for(10ms);
    const bool was_pending = engine.mod_delayed_work(engine.system_wq(), timeout.work, 40ms);
    std::printf("a sign of life: the time-out was %s, and is put off\n", was_pending ? "armed" : "not armed");
  }
  if (!timeout.done.wait(Deadline::after(10s))) return 1;

  Tick tick(engine);
  engine.schedule_delayed_work(tick.work, 0ms);
  if (!tick.five.wait(Deadline::after(10s))) return 1;
  // Takes back an armed timer, and waits for a run; afterwards neither is there, though the work arms itself.
  engine.cancel_delayed_work_sync(tick.work);
  engine.cancel_delayed_work_sync(timeout.work);
  std::printf("%d ticks, then none\n", tick.ticks);
  return 0;
}
