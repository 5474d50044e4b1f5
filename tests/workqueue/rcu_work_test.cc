// SPDX-License-Identifier: Apache-2.0
// Works that wait for readers.
#include "workqueue/rcu_work.h"
#include "tests/workqueue/rules.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

struct Reclaim {
  void run(Work&) {
    EXPECT_EQ(readers->load(), 0) << "it ran before a reader that began earlier had left";
    runs.fetch_add(1);
  }
  platform::Atomic<int>* readers = nullptr;
  platform::Atomic<int> runs{0};
  RcuWork work{this, &Reclaim::run};
};

/// Many seeds of a small scene, since every access of the counters can be interleaved.
template <class F>
void under_very_many_schedules(F body) {
#if defined(UPCI_SIM)
  for_each_seed(std::min(10'000U, kMostSeeds), body);
#else
  under_many_schedules(body, 200);
#endif
}

TEST(RcuWork, NeverRunsBeforeAReaderThatBeganEarlierHasLeft) {
  auto options = engine_options();
  options.topology = *Topology::synthetic("core:1");
  under_very_many_schedules([&] {
    auto engine = make_engine(options);
    platform::Atomic<int> object{1};  // what readers look at; 0 once it is freed
    platform::Atomic<int*> published{nullptr};
    int value = 7;
    published.store(reinterpret_cast<int*>(&value));
    struct Free {
      void run(Work&) { object->store(0); }
      platform::Atomic<int>* object = nullptr;
      RcuWork work{this, &Free::run};
    } free{&object};
    in_threads(3, [&](unsigned thread) {
      if (thread == 0) {
        published.store(nullptr);  // unpublished first, then waited for
        EXPECT_TRUE(engine->queue_rcu_work(engine->system_wq(), free.work));
        return;
      }
      for (int i = 0; i < 2; i++) {
        const RcuReader reader(engine->rcu());
        if (published.load() == nullptr) continue;
        platform::this_thread::yield();
        EXPECT_EQ(object.load(), 1) << "freed under a reader";
      }
    });
    EXPECT_TRUE(eventually([&] { return object.load() == 0; }));
    engine->flush_rcu_work(free.work);
  });
}

TEST(RcuWork, WaitsWhileAReaderStays) {
  under_many_schedules([] {
    auto engine = make_engine();
    platform::Atomic<int> readers{1};
    Reclaim reclaim{&readers};
    const int section = engine->rcu().read_lock();
    EXPECT_TRUE(engine->queue_rcu_work(engine->system_wq(), reclaim.work));
    EXPECT_FALSE(engine->queue_rcu_work(engine->system_wq(), reclaim.work));  // pending
    sleep_for(2ms);
    EXPECT_EQ(reclaim.runs.load(), 0);
    EXPECT_TRUE(reclaim.work.is_pending());
    readers.store(0);
    engine->rcu().read_unlock(section);
    EXPECT_TRUE(engine->flush_rcu_work(reclaim.work));
    EXPECT_EQ(reclaim.runs.load(), 1);
    EXPECT_TRUE(engine->queue_rcu_work(engine->system_wq(), reclaim.work));
    engine->flush_rcu_work(reclaim.work);
    EXPECT_EQ(reclaim.runs.load(), 2);
    EXPECT_FALSE(engine->flush_rcu_work(reclaim.work));  // idle
  });
}

TEST(RcuWork, ReadersThatBeginLaterDoNotDelayItForEver) {
  under_many_schedules([] {
    auto engine = make_engine();
    platform::Atomic<int> readers{0};
    platform::Atomic<int> stop{0};
    Reclaim reclaim{&readers};
    // Two readers that overlap, so that at no time nobody reads.
    int held = engine->rcu().read_lock();
    auto relay = platform::Thread::create({.name = "readers"}, [&] {
      while (stop.load() == 0) {
        const int next = engine->rcu().read_lock();
        engine->rcu().read_unlock(held);
        held = next;
        sleep_for(20us);
      }
      engine->rcu().read_unlock(held);
    });
    ASSERT_TRUE(relay.has_value());
    EXPECT_TRUE(engine->queue_rcu_work(engine->system_wq(), reclaim.work));
    EXPECT_TRUE(eventually([&] { return reclaim.runs.load() == 1; }));
    stop.store(1);
    relay->join();
    engine->flush_rcu_work(reclaim.work);
  });
}

TEST(RcuWork, SynchronizeWaitsForThoseWhoBeganBefore) {
  under_many_schedules([] {
    auto engine = make_engine();
    platform::Atomic<int> reading{0};
    platform::Atomic<int> left{0};
    auto reader = platform::Thread::create({.name = "reader"}, [&] {
      {
        const RcuReader section(engine->rcu());
        reading.store(1);
        sleep_for(200us);  // a section may sleep
        left.store(1);
      }
    });
    ASSERT_TRUE(reader.has_value());
    EXPECT_TRUE(eventually([&] { return reading.load() == 1; }));
    engine->rcu().synchronize();
    EXPECT_EQ(left.load(), 1);
    reader->join();
    engine->rcu().synchronize();  // nobody reads: at once
  });
}

TEST(RcuWork, ADisabledWorkIsNotQueuedAndAnEngineThatEndsDropsIt) {
  under_many_schedules([] {
    platform::Atomic<int> readers{1};
    Reclaim reclaim{&readers};
    auto engine = make_engine();
    engine->disable_work(reclaim.work.work());
    EXPECT_FALSE(engine->queue_rcu_work(engine->system_wq(), reclaim.work));
    engine->enable_work(reclaim.work.work());
    const int section = engine->rcu().read_lock();
    EXPECT_TRUE(engine->queue_rcu_work(engine->system_wq(), reclaim.work));
    (void)section;  // never left
    engine.reset();
    EXPECT_FALSE(reclaim.work.is_pending());
    EXPECT_EQ(reclaim.runs.load(), 0);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
