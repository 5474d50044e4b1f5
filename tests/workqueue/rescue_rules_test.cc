// SPDX-License-Identifier: Apache-2.0
// Rules 26 and 27: progress without new threads, and how many idle ones are kept.
#include "tests/workqueue/rules.h"
#include "workqueue/snapshot.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

[[maybe_unused]] WorkqueueSnapshot look_at(const Engine& engine, const std::string& queue) {
  for (const WorkqueueSnapshot& shot : engine.snapshot(false).workqueues) {
    if (shot.name == queue) return shot;
  }
  return {};
}

TEST(RescueRules, Rule26AQueueWithARescuerRunsItsItemsOnWorkersToo) {
  under_many_schedules([] {
    auto engine = make_engine();
    auto queue = make_queue(*engine, kWqPercpu | kWqMemReclaim);
    std::vector<std::unique_ptr<Counter>> counters;
    for (int i = 0; i < 8; i++) {
      counters.push_back(std::make_unique<Counter>());
      engine->queue_work_on(i % 4, *queue, counters.back()->work);
    }
    engine->flush_workqueue(*queue);
    for (const auto& counter : counters) EXPECT_EQ(counter->runs.load(), 1);
  });
}

#if defined(UPCI_SIM)
/// Threads are refused for as long as it lives.
class NoThreads {
 public:
  NoThreads() { platform::sim::refuse_threads(true); }
  ~NoThreads() { platform::sim::refuse_threads(false); }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;
};

void progresses_without_threads(WqFlags flags) {
  under_many_schedules([flags] {
    const QuietLog quiet;
    auto engine = make_engine();
    auto queue = make_queue(*engine, flags | kWqMemReclaim);
    auto other = make_queue(*engine, flags, 0, "other");
    {
      const NoThreads refused;
      // The only worker of the pool sleeps in an item; the one that would stand by cannot be made.
      Gate gate;
      Tasks held = gate.tasks(1);
      engine->queue_work_on(1, *other, held[0]->work);
      EXPECT_TRUE(eventually([&] { return gate.started() == 1; }));
      Counter stranger;
      Counter second;
      Task first([&] { EXPECT_TRUE(engine->queue_work_on(1, *queue, second.work)); });
      EXPECT_TRUE(engine->queue_work_on(1, *other, stranger.work));
      EXPECT_TRUE(engine->queue_work_on(1, *queue, first.work));
      engine->flush_work(first.work);
      engine->flush_workqueue(*queue);  // what its items queue, too
      EXPECT_EQ(second.runs.load(), 1);
      EXPECT_EQ(stranger.runs.load(), 0);  // the rescuer runs its own queue's items only
      const WorkqueueSnapshot shot = look_at(*engine, "test");
      EXPECT_EQ(shot.rescued, 2U);
      EXPECT_GE(shot.mayday, 1U);
      EXPECT_EQ(look_at(*engine, "other").rescued, 0U);
      gate.open();
      engine->flush_work(stranger.work);
      EXPECT_EQ(stranger.runs.load(), 1);
    }
    EXPECT_TRUE(engine->work_on_cpu(1, [] {}).has_value());
  });
}

TEST(RescueRules, Rule26ItProgressesWhileNoThreadCanBeHad) { progresses_without_threads(kWqPercpu); }
TEST(RescueRules, Rule26AnUnboundOneToo) { progresses_without_threads(kWqUnbound); }

TEST(RescueRules, Rule26ItemsBeyondMaxActiveAreRescuedInTheirTurn) {
  under_many_schedules([] {
    const QuietLog quiet;
    auto engine = make_engine();
    auto queue = make_queue(*engine, kWqPercpu | kWqMemReclaim, 1);
    const NoThreads refused;
    Gate gate;
    Tasks held = gate.tasks(1);
    engine->queue_work_on(1, engine->system_wq(), held[0]->work);
    EXPECT_TRUE(eventually([&] { return gate.started() == 1; }));
    Order order;
    Tasks tasks;
    for (int i = 0; i < 5; i++) {
      tasks.push_back(std::make_unique<Task>([&order, i] { order.add(i); }));
      engine->queue_work_on(1, *queue, tasks.back()->work);
    }
    engine->flush_workqueue(*queue);
    EXPECT_EQ(order.numbers(), ascending(5));
    gate.open();
    engine->flush_work(held[0]->work);
  });
}

unsigned workers_of(const Engine& engine, int cpu) {
  for (const PoolSnapshot& pool : engine.snapshot(false).pools) {
    if (pool.kind == "percpu" && pool.cpu == cpu && pool.nice == 0) return pool.workers;
  }
  return 0;
}

TEST(RescueRules, Rule27TwoIdleWorkersAreKeptAndTheOthersEndAfterTheirTime) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        Gate gate;
        Tasks tasks = gate.tasks(8);
        for (const auto& task : tasks) engine->queue_work_on(1, engine->system_wq(), task->work);
        EXPECT_TRUE(eventually([&] { return gate.started() == 8; }));
        gate.open();
        for (const auto& task : tasks) engine->flush_work(task->work);
        sleep_for(299s);
        EXPECT_GE(workers_of(*engine, 1), 9U);
        sleep_for(302s);
        EXPECT_EQ(workers_of(*engine, 1), 2U);
        sleep_for(3600s);
        EXPECT_EQ(workers_of(*engine, 1), 2U);
        EXPECT_TRUE(engine->work_on_cpu(1, [] {}).has_value());
      },
      1, 500);
}

TEST(RescueRules, Rule27AQuarterOfTheBusyOnesStaysBesides) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        Gate busy;
        Gate idle;
        Tasks long_ones = busy.tasks(8);
        Tasks short_ones = idle.tasks(6);
        for (const auto& task : long_ones) engine->queue_work_on(1, engine->system_wq(), task->work);
        for (const auto& task : short_ones) engine->queue_work_on(1, engine->system_wq(), task->work);
        EXPECT_TRUE(eventually([&] { return busy.started() == 8 && idle.started() == 6; }));
        idle.open();
        for (const auto& task : short_ones) engine->flush_work(task->work);
        sleep_for(1000s);
        EXPECT_EQ(workers_of(*engine, 1), 8U + 3U);  // two, and fewer than a quarter of eight more
        busy.open();
        for (const auto& task : long_ones) engine->flush_work(task->work);
      },
      1, 500);
}
#endif

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
