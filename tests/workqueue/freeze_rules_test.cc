// SPDX-License-Identifier: Apache-2.0
// Rule 25: freezing.
#include "tests/workqueue/rules.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

template <class F>
void on_bound_and_unbound(F body) {
  for (const WqFlags flags : {kWqPercpu, kWqUnbound}) {
    under_many_schedules(
        [&] {
          auto engine = make_engine();
          auto queue = make_queue(*engine, flags | kWqFreezable);
          body(*engine, *queue);
        },
        10, 500);
  }
}

TEST(FreezeRules, Rule25ActiveItemsFinishAndNoneStarts) {
  on_bound_and_unbound([](Engine& engine, Workqueue& queue) {
    Gate gate;
    Tasks active = gate.tasks(1);
    engine.queue_work_on(0, queue, active[0]->work);
    EXPECT_TRUE(eventually([&] { return gate.started() == 1; }));
    engine.freeze_workqueues();
    EXPECT_TRUE(engine.freeze_workqueues_busy());
    Counter later;
    Counter elsewhere;
    EXPECT_TRUE(engine.queue_work_on(0, queue, later.work));
    EXPECT_TRUE(engine.queue_work_on(0, engine.system_wq(), elsewhere.work));
    engine.flush_work(elsewhere.work);  // other queues go on
    gate.open();
    engine.flush_work(active[0]->work);
    EXPECT_TRUE(eventually([&] { return !engine.freeze_workqueues_busy(); }));
    engine.work_on_cpu(0, [] {});
    EXPECT_EQ(later.runs.load(), 0);
    EXPECT_TRUE(later.work.is_pending());
    engine.thaw_workqueues();
    engine.flush_work(later.work);
    EXPECT_EQ(later.runs.load(), 1);
  });
}

TEST(FreezeRules, Rule25CancelWorksWhileFrozen) {
  on_bound_and_unbound([](Engine& engine, Workqueue& queue) {
    engine.freeze_workqueues();
    Counter first;
    Counter second;
    EXPECT_TRUE(engine.queue_work_on(1, queue, first.work));
    EXPECT_TRUE(engine.queue_work_on(1, queue, second.work));
    EXPECT_TRUE(engine.cancel_work_sync(first.work));
    EXPECT_TRUE(engine.cancel_work(second.work));
    EXPECT_FALSE(engine.cancel_work(second.work));
    engine.thaw_workqueues();
    engine.flush_workqueue(queue);
    EXPECT_EQ(first.runs.load() + second.runs.load(), 0);
  });
}

TEST(FreezeRules, Rule25AFlushOfAFrozenPendingItemWaitsForTheThaw) {
  on_bound_and_unbound([](Engine& engine, Workqueue& queue) {
    engine.freeze_workqueues();
    Counter item;
    engine.queue_work_on(1, queue, item.work);
    platform::Atomic<int> returned{0};
    in_threads(3, [&](unsigned thread) {
      if (thread == 0) {
        EXPECT_TRUE(engine.flush_work(item.work) || item.runs.load() == 1);
        EXPECT_EQ(item.runs.load(), 1);
        returned.fetch_add(1);
      } else if (thread == 1) {
        engine.flush_workqueue(queue);
        EXPECT_EQ(item.runs.load(), 1);
        returned.fetch_add(1);
      } else {
        sleep_for(1ms);
        EXPECT_EQ(returned.load(), 0);
        engine.thaw_workqueues();
      }
    });
  });
}

TEST(FreezeRules, Rule25WhatWaitedStartsInOrderAfterTheThaw) {
  for (const bool ordered : {false, true}) {
    under_many_schedules(
        [ordered] {
          auto engine = make_engine();
          auto queue = ordered ? make_ordered(*engine, kWqFreezable) : make_queue(*engine, kWqPercpu | kWqFreezable, 1);
          Order order;
          Tasks tasks;
          for (int i = 0; i < 8; i++) {
            tasks.push_back(std::make_unique<Task>([&order, i] { order.add(i); }));
            if (i == 2) engine->freeze_workqueues();
            if (i == 5) engine->thaw_workqueues();
            engine->queue_work_on(0, *queue, tasks.back()->work);
          }
          engine->flush_workqueue(*queue);
          EXPECT_EQ(order.numbers(), ascending(8));
        },
        10, 500);
  }
}

TEST(FreezeRules, Rule25AQueueMadeWhileFrozenIsFrozenAndDestroyingOneIsNot) {
  under_many_schedules([] {
    auto engine = make_engine();
    engine->freeze_workqueues();
    Counter item;
    {
      auto queue = make_queue(*engine, kWqPercpu | kWqFreezable);
      engine->queue_work_on(1, *queue, item.work);
      ASSERT_TRUE(engine->set_max_active(*queue, 5).has_value());  // does not thaw it
      engine->work_on_cpu(1, [] {});
      EXPECT_EQ(item.runs.load(), 0);
    }
    EXPECT_EQ(item.runs.load(), 1);  // destroying drains
    engine->thaw_workqueues();
  });
}

TEST(FreezeRules, Rule25NothingIsLostWhileItFreezesAndThaws) {
  on_bound_and_unbound([](Engine& engine, Workqueue& queue) {
    std::vector<std::unique_ptr<Counter>> counters;
    for (int i = 0; i < 8; i++) counters.push_back(std::make_unique<Counter>());
    in_threads(3, [&](unsigned thread) {
      if (thread == 0) {
        for (int i = 0; i < 3; i++) {
          engine.freeze_workqueues();
          engine.thaw_workqueues();
        }
        return;
      }
      for (unsigned i = thread - 1; i < 8; i += 2) {
        EXPECT_TRUE(engine.queue_work_on(static_cast<int>(i % 4), queue, counters[i]->work));
      }
    });
    engine.flush_workqueue(queue);
    for (const auto& counter : counters) EXPECT_EQ(counter->runs.load(), 1);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
