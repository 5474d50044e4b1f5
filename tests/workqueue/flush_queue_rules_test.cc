// SPDX-License-Identifier: Apache-2.0
// Rules 16 to 19: flushing and draining a workqueue.
#include "tests/workqueue/rules.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

Engine::Options reporting_to(Reports& reports) {
  Engine::Options options = engine_options();
  options.report = reports.sink();
  return options;
}

TEST(FlushQueueRules, Rule16AllThatWasQueuedBeforeIsDoneInactiveItemsIncluded) {
  for (const WqFlags flags : {kWqPercpu, kWqUnbound}) {
    under_many_schedules([flags] {
      auto engine = make_engine();
      auto queue = make_queue(*engine, flags, 1);
      std::vector<std::unique_ptr<Counter>> counters;
      for (int i = 0; i < 9; i++) {
        counters.push_back(std::make_unique<Counter>());
        engine->queue_work_on(i < 6 ? 0 : i % 4, *queue, counters.back()->work);
      }
      engine->flush_workqueue(*queue);
      for (const auto& counter : counters) EXPECT_EQ(counter->runs.load(), 1);
    });
  }
}

TEST(FlushQueueRules, Rule16LaterItemsDoNotDelayIt) {
  under_many_schedules([] {
    auto engine = make_engine();
    auto queue = make_queue(*engine, kWqPercpu);
    platform::Atomic<int> stop{0};
    Work* self = nullptr;
    // There is never a moment without an item of it, queued or running.
    Task restless([&] {
      if (stop.load() == 0) engine->queue_work(*queue, *self);
    });
    self = &restless.work;
    engine->queue_work_on(1, *queue, restless.work);
    Counter counter;
    for (int i = 1; i <= 3; i++) {
      engine->queue_work_on(2, *queue, counter.work);
      engine->flush_workqueue(*queue);
      EXPECT_EQ(counter.runs.load(), i);
    }
    stop.store(1);
    engine->cancel_work_sync(restless.work);
  });
}

TEST(FlushQueueRules, Rule16AnItemQueuedAfterTheFlushBeganMayStillRunWhenItReturns) {
  under_many_schedules([] {
    auto engine = make_engine();
    auto queue = make_queue(*engine, kWqPercpu);
    Gate early;
    Gate late;
    Tasks first = early.tasks(1);
    Tasks second = late.tasks(1);
    engine->queue_work_on(1, *queue, first[0]->work);
    EXPECT_TRUE(eventually([&] { return early.started() == 1; }));
    in_threads(2, [&](unsigned thread) {
      if (thread == 0) {
        engine->flush_workqueue(*queue);
        EXPECT_EQ(first[0]->runs.load(), 1);
        late.open();
        return;
      }
      // In simulation time moves once the flusher sleeps. Otherwise this is a flush that began late: then it waits for
      // `second`, which must be let go.
      sleep_for(1ms);
#if !defined(UPCI_SIM)
      late.open();
#endif
      engine->queue_work_on(1, *queue, second[0]->work);
      early.open();
    });
    engine->flush_workqueue(*queue);
    EXPECT_EQ(second[0]->runs.load(), 1);
  });
}

TEST(FlushQueueRules, Rule16MoreFlushersThanColoursAllComplete) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        auto queue = make_queue(*engine, kWqPercpu);
        Gate gate;
        Tasks held = gate.tasks(1);
        engine->queue_work_on(0, *queue, held[0]->work);
        std::vector<std::unique_ptr<Counter>> counters;
        for (int i = 0; i < 24; i++) counters.push_back(std::make_unique<Counter>());
        in_threads(25, [&](unsigned thread) {
          if (thread == 24) {
            sleep_for(1ms);
            return gate.open();
          }
          engine->queue_work_on(static_cast<int>(thread % 4), *queue, counters[thread]->work);
          engine->flush_workqueue(*queue);
          EXPECT_EQ(counters[thread]->runs.load(), 1);
          EXPECT_EQ(held[0]->runs.load(), 1);
        });
        engine->flush_workqueue(*queue);  // the colours work on
      },
      10);
}

TEST(FlushQueueRules, Rule17FlushingAQueueIgnoresPendingTimers) {
  under_many_schedules([] {
    struct Late {
      void run(Work&) { runs.fetch_add(1); }
      platform::Atomic<int> runs{0};
      DelayedWork work{this, &Late::run};
    };
    auto engine = make_engine();
    auto queue = make_queue(*engine, kWqPercpu);
    Late late;
    EXPECT_TRUE(engine->queue_delayed_work_on(1, *queue, late.work, 1h));
    engine->flush_workqueue(*queue);
    engine->drain_workqueue(*queue);
    EXPECT_TRUE(late.work.is_pending());
    EXPECT_TRUE(engine->cancel_delayed_work(late.work));
    EXPECT_EQ(late.runs.load(), 0);
  });
}

TEST(FlushQueueRules, Rule18DrainTakesChainedWorkOnlyAndWarnsOnce) {
  under_many_schedules([] {
    Reports reports;
    auto engine = make_engine(reporting_to(reports));
    auto queue = make_queue(*engine, kWqPercpu);
    Gate gate;
    Counter chained;
    Counter stranger;
    platform::Atomic<int> sure{0};
    Task head([&] {
      gate.pass();
      EXPECT_TRUE(engine->queue_work(*queue, chained.work));
    });
    engine->queue_work_on(0, *queue, head.work);
    in_threads(2, [&](unsigned thread) {
      if (thread == 0) {
        engine->drain_workqueue(*queue);
        EXPECT_EQ(chained.runs.load(), 1);
        return;
      }
      while (reports.count(Report::Kind::kDrain) == 0) {
        if (engine->queue_work_on(1, *queue, stranger.work)) sure.fetch_add(1);
        sleep_for(20us);
      }
      for (int i = 0; i < 3; i++) EXPECT_FALSE(engine->queue_work_on(1, *queue, stranger.work));
      EXPECT_EQ(reports.count(Report::Kind::kDrain), 1U);
      gate.open();
    });
    EXPECT_EQ(stranger.runs.load(), sure.load());
    EXPECT_FALSE(stranger.work.is_pending());
    for (const Report& report : reports.all(Report::Kind::kDrain)) EXPECT_GT(report.caller.depth, 0U);
    EXPECT_TRUE(engine->queue_work(*queue, stranger.work));  // drained: it is as before
    engine->flush_workqueue(*queue);
  });
}

TEST(FlushQueueRules, Rule18ATimerThatExpiresWhileDrainingIsDropped) {
  under_many_schedules([] {
    struct Late {
      void run(Work&) { runs.fetch_add(1); }
      platform::Atomic<int> runs{0};
      DelayedWork work{this, &Late::run};
    };
    Reports reports;
    auto engine = make_engine(reporting_to(reports));
    auto queue = make_queue(*engine, kWqPercpu);
    Gate gate;
    Late late;
    Counter probe;
    Tasks held = gate.tasks(1);
    engine->queue_work_on(0, *queue, held[0]->work);
    in_threads(2, [&](unsigned thread) {
      if (thread == 0) return engine->drain_workqueue(*queue);
      // It draws the one warning, so that it is sure that the drain has begun; the timer of 1 h is then cut short.
      EXPECT_TRUE(engine->queue_delayed_work_on(1, *queue, late.work, 1h));
      while (reports.count(Report::Kind::kDrain) == 0) {
        engine->queue_work_on(1, *queue, probe.work);
        sleep_for(20us);
      }
      engine->mod_delayed_work_on(1, *queue, late.work, 1us);
      EXPECT_TRUE(eventually([&] { return !late.work.is_pending(); }));
      EXPECT_EQ(reports.count(Report::Kind::kDrain), 1U);
      gate.open();
    });
    EXPECT_EQ(late.runs.load(), 0);
    EXPECT_FALSE(engine->cancel_delayed_work_sync(late.work));
  });
}

TEST(FlushQueueRules, Rule19AnItemThatAlwaysQueuesItselfMakesDrainReport) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        auto queue = make_queue(*engine, kWqPercpu);
        Work* self = nullptr;
        Task restless([&] {
          if (reports.count(Report::Kind::kDrain) < 3) engine->queue_work(*queue, *self);
        });
        self = &restless.work;
        engine->queue_work_on(1, *queue, restless.work);
        engine->drain_workqueue(*queue);
        const auto told = reports.all(Report::Kind::kDrain);
        ASSERT_EQ(told.size(), 3U);
        for (const auto& [place, tries] : {std::pair(0U, "after 10 tries"), {1U, "after 100 "}, {2U, "after 200 "}}) {
          EXPECT_NE(told[place].text.find(tries), std::string::npos) << told[place].text;
          EXPECT_NE(told[place].text.find("'test'"), std::string::npos);
          EXPECT_GT(told[place].caller.depth, 0U);
        }
        EXPECT_FALSE(restless.work.is_pending());
      },
      10, 300);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
