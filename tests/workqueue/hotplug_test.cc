// SPDX-License-Identifier: Apache-2.0
// A CPU that goes offline and comes back. Simulated only: no CPU of the machine that runs the tests is taken away; in the
// guest laboratory the kernel does it.
#include "tests/workqueue/rules.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

struct Where {
  void run(Work&) {
    os_cpu.store(platform::this_thread::current_cpu());
    runs.fetch_add(1);
  }
  platform::Atomic<int> os_cpu{-1};
  platform::Atomic<int> runs{0};
  Work work{this, &Where::run};
};

int run_on(Engine& engine, int cpu, Where& where) {
  EXPECT_TRUE(engine.queue_work_on(cpu, engine.system_wq(), where.work));
  engine.flush_work(where.work);
  return where.os_cpu.load();
}

TEST(Hotplug, WorkOfACpuThatHasGoneRunsElsewhereIsCountedAndComesBackWithTheCpu) {
  for_each_seed(1000, [] {
    auto engine = make_engine();
    const int os_cpu = engine->topology().find(1)->os_cpu;
    Where where;
    EXPECT_EQ(run_on(*engine, 1, where), os_cpu);
    EXPECT_EQ(engine->stats(1).displaced, 0U);

    platform::sim::set_online(os_cpu, false);
    for (int i = 0; i < 3; ++i) EXPECT_NE(run_on(*engine, 1, where), os_cpu);
    EXPECT_GE(engine->stats(1).displaced, 1U);

    platform::sim::set_online(os_cpu, true);
    // Not at once where a worker has looked for its CPU just before.
    EXPECT_TRUE(eventually([&] { return run_on(*engine, 1, where) == os_cpu; }));
    const std::uint64_t displaced = engine->stats(1).displaced;
    EXPECT_EQ(run_on(*engine, 1, where), os_cpu);
    // One that tried in vain just before the CPU came back may be counted late.
    EXPECT_LE(engine->stats(1).displaced, displaced + 1);
    EXPECT_GE(where.runs.load(), 6);
  });
}

TEST(Hotplug, AStandbyIsMadeWhileTheCpuIsAway) {
  for_each_seed(1000, [] {
    auto engine = make_engine();
    const int os_cpu = engine->topology().find(1)->os_cpu;
    struct Sleeper {
      void run(Work&) {
        begun.complete();
        end.wait();
      }
      Completion begun, end;
      Work work{this, &Sleeper::run};
    };
    std::array<Sleeper, 3> sleepers;
    Where where;
    platform::sim::set_online(os_cpu, false);
    for (Sleeper& sleeper : sleepers) {
      engine->queue_work_on(1, engine->system_wq(), sleeper.work);
      sleeper.begun.wait();
    }
    EXPECT_NE(run_on(*engine, 1, where), os_cpu);  // all the others sleep: a new worker runs it
    for (Sleeper& sleeper : sleepers) sleeper.end.complete();
    for (Sleeper& sleeper : sleepers) engine->flush_work(sleeper.work);
    platform::sim::set_online(os_cpu, true);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
