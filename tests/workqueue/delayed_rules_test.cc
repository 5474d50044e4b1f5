// SPDX-License-Identifier: Apache-2.0
// Rule 24: mod_delayed_work. One instance, the latest expiry.
#include "tests/workqueue/rules.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

struct Late {
  void run(Work&) {
    when = platform::Clock::now();
    runs.fetch_add(1);
  }
  platform::TimePoint when{};
  platform::Atomic<int> runs{0};
  DelayedWork work{this, &Late::run};
};

TEST(DelayedRules, Rule24ThereIsOneInstanceWithTheLatestExpiry) {
  under_many_schedules([] {
    auto engine = make_engine();
    Late late;
    const auto before = platform::Clock::now();
    EXPECT_FALSE(engine->mod_delayed_work_on(0, engine->system_wq(), late.work, 1h));
    EXPECT_TRUE(engine->mod_delayed_work_on(1, engine->system_wq(), late.work, 2h));
    EXPECT_TRUE(engine->mod_delayed_work_on(2, engine->system_wq(), late.work, 2ms));
    EXPECT_TRUE(eventually([&] { return late.runs.load() == 1; }));
    EXPECT_GE(late.when - before, 2ms);
    EXPECT_FALSE(late.work.is_pending());
    EXPECT_FALSE(engine->cancel_delayed_work_sync(late.work));
    EXPECT_EQ(late.runs.load(), 1);
  });
}

TEST(DelayedRules, Rule24ALaterExpiryPutsItOff) {
  under_many_schedules([] {
    auto engine = make_engine();
    Late late;
    EXPECT_TRUE(engine->queue_delayed_work_on(1, engine->system_wq(), late.work, 50ms));
    const auto before = platform::Clock::now();
    // On a busy machine the first one may have expired by then.
    if (engine->mod_delayed_work_on(1, engine->system_wq(), late.work, 60ms)) {
      EXPECT_TRUE(eventually([&] { return late.runs.load() == 1; }));
      EXPECT_GE(late.when - before, 60ms);
    }
    engine->cancel_delayed_work_sync(late.work);
  });
}

TEST(DelayedRules, Rule24ADelayOfZeroQueuesAtOnce) {
  under_many_schedules([] {
    auto engine = make_engine();
    Late late;
    EXPECT_TRUE(engine->queue_delayed_work_on(3, engine->system_wq(), late.work, 1h));
    EXPECT_TRUE(engine->mod_delayed_work_on(1, engine->system_wq(), late.work, 0ns));
    engine->flush_work(late.work.work());
    EXPECT_EQ(late.runs.load(), 1);
    EXPECT_FALSE(engine->mod_delayed_work_on(1, engine->system_wq(), late.work, 0ns));
    engine->flush_work(late.work.work());
    EXPECT_EQ(late.runs.load(), 2);
  });
}

TEST(DelayedRules, Rule24OfAQueuedItemItMakesATimerAgain) {
  under_many_schedules([] {
    auto engine = make_engine();
    Late late;
    {
      Occupied occupied(*engine, 0);
      EXPECT_TRUE(engine->queue_delayed_work_on(0, engine->system_wq(), late.work, 0ns));
      EXPECT_TRUE(engine->mod_delayed_work_on(0, engine->system_wq(), late.work, 1h));
    }
    engine->work_on_cpu(0, [] {});
    EXPECT_EQ(late.runs.load(), 0);
    EXPECT_TRUE(engine->cancel_delayed_work(late.work));
  });
}

TEST(DelayedRules, Rule24EachRaceIsDecidedOnce) {
  under_many_schedules([] {
    auto engine = make_engine();
    Late late;
    platform::Atomic<int> made{0};   // calls that found it idle
    platform::Atomic<int> taken{0};  // calls that took it back
    in_threads(3, [&](unsigned thread) {
      for (int i = 0; i < 5; i++) {
        const int cpu = (static_cast<int>(thread) + i) % 4;
        if (thread == 2) {
          sleep_for(30us);
          if (engine->cancel_delayed_work(late.work)) taken.fetch_add(1);
        } else if (!engine->mod_delayed_work_on(cpu, engine->system_wq(), late.work, 20us * i)) {
          made.fetch_add(1);
        }
      }
    });
    engine->flush_delayed_work(late.work);
    EXPECT_FALSE(late.work.is_pending());
    EXPECT_EQ(late.runs.load() + taken.load(), made.load());
  });
}

TEST(DelayedRules, Rule24ADisabledOneStaysIdle) {
  under_many_schedules([] {
    auto engine = make_engine();
    Late late;
    EXPECT_TRUE(engine->queue_delayed_work_on(1, engine->system_wq(), late.work, 1h));
    EXPECT_TRUE(engine->disable_delayed_work(late.work));
    EXPECT_FALSE(engine->mod_delayed_work_on(1, engine->system_wq(), late.work, 0ns));
    EXPECT_FALSE(engine->mod_delayed_work_on(1, engine->system_wq(), late.work, 1ms));
    EXPECT_FALSE(late.work.is_pending());
    EXPECT_TRUE(engine->enable_delayed_work(late.work));
    EXPECT_EQ(late.runs.load(), 0);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
