// SPDX-License-Identifier: Apache-2.0
// Rule 8: of each CPU's items one runs at a time; when it sleeps, the next one starts.
#include <array>
#include <mutex>

#include "tests/workqueue/rules.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

TEST(OneRunnerRules, Rule08WhenTheRunnerSleepsTheNextItemStarts) {
  under_many_schedules([] {
    struct Pair {
      void waits(Work&) { done.wait(); }
      void gives(Work&) { done.complete(); }
      Completion done;
      Work first{this, &Pair::waits};
      Work second{this, &Pair::gives};
    };
    auto engine = make_engine(overseen_rarely());
    const Prompt prompt;
    Pair pair;
    {
      Occupied occupied(*engine, 1);
      engine->queue_work_on(1, engine->system_wq(), pair.first);
      engine->queue_work_on(1, engine->system_wq(), pair.second);
    }
    engine->flush_work(pair.first);
    EXPECT_TRUE(pair.done.is_complete());
    // Whoever was woken, be it by the sleeper itself or by the record of its switch.
    EXPECT_GE(engine->stats(1).cm_wakeups + engine->stats(1).switch_wakeups, 1U);
    engine->flush_work(pair.second);
  });
}

TEST(OneRunnerRules, Rule08AContendedMutexCountsAsSleeping) {
  under_many_schedules([] {
    struct Pair {
      void takes(Work&) {
        std::lock_guard guard(mutex);
        taken.store(1);
      }
      void runs(Work&) { ran.store(1); }
      Mutex mutex;
      platform::Atomic<int> taken{0};
      platform::Atomic<int> ran{0};
      Work first{this, &Pair::takes};
      Work second{this, &Pair::runs};
    };
    auto engine = make_engine(overseen_rarely());
    const Prompt prompt;
    Pair pair;
    pair.mutex.lock();
    engine->queue_work_on(1, engine->system_wq(), pair.first);
    engine->queue_work_on(1, engine->system_wq(), pair.second);
    EXPECT_TRUE(eventually([&] { return pair.ran.load() == 1; }));
    EXPECT_EQ(pair.taken.load(), 0);
    pair.mutex.unlock();
    engine->flush_work(pair.first);
    EXPECT_EQ(pair.taken.load(), 1);
    engine->flush_work(pair.second);
  });
}

TEST(OneRunnerRules, Rule08YieldingOrBeingPreemptedStartsNone) {
  under_many_schedules([] {
    auto engine = make_engine();
    Counter counter;
    {
      Occupied occupied(*engine, 3);  // yields all the time
      engine->queue_work_on(3, engine->system_wq(), counter.work);
      for (int i = 0; i < 50; i++) platform::this_thread::yield();
      EXPECT_EQ(counter.runs.load(), 0);
      EXPECT_EQ(engine->stats(3).cm_wakeups, 0U);
    }
    engine->flush_work(counter.work);
    EXPECT_EQ(counter.runs.load(), 1);
  });
}

TEST(OneRunnerRules, Rule08WaitingForThePoolsLockBetweenTwoItemsStartsNone) {
  under_many_schedules([] {
    auto engine = make_engine();
    std::array<Counter, 12> counters;
    {
      Occupied occupied(*engine, 1);
      for (Counter& counter : counters) engine->queue_work_on(1, engine->system_wq(), counter.work);
    }
    // Asking takes the lock that the worker wants at the end of each item.
    const Deadline deadline = Deadline::after(60s);
    while (engine->stats(1).executed <= counters.size() && !deadline.expired()) platform::this_thread::yield();
    EXPECT_GT(engine->stats(1).executed, counters.size());
    EXPECT_EQ(engine->stats(1).cm_wakeups, 0U);
    for (Counter& counter : counters) engine->flush_work(counter.work);
  });
}

TEST(OneRunnerRules, Rule08AtMostOneAwakeItemStartsItems) {
  under_many_schedules([] {
    struct Item {
      void run(Work&) {
        // No item of this test sleeps, so no two of one CPU may ever be under way.
        EXPECT_EQ(inside.fetch_add(1), 0);
        platform::this_thread::yield();
        inside.fetch_sub(1);
      }
      platform::Atomic<int>& inside;
      Work work{this, &Item::run};
    };
    auto engine = make_engine();
    platform::Atomic<int> inside{0};
    std::vector<std::unique_ptr<Item>> items;
    for (int i = 0; i < 6; i++) items.emplace_back(new Item{inside});
    in_threads(2, [&](unsigned thread) {
      for (unsigned i = 0; i < 3; i++) engine->queue_work_on(0, engine->system_wq(), items[3 * thread + i]->work);
    });
    for (const auto& item : items) engine->flush_work(item->work);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
