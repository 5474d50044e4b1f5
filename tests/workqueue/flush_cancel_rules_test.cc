// SPDX-License-Identifier: Apache-2.0
// Rules 14, 15, 20 to 23: flushing, cancelling, disabling.
#include <array>

#include "tests/workqueue/rules.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

/// Queues itself until told to stop.
struct Restless {
  void run(Work& self) {
    runs.fetch_add(1);
    if (stop.load() == 0 && engine.schedule_work(self)) requeued.fetch_add(1);
  }
  Engine& engine;
  platform::Atomic<int> runs{0};
  platform::Atomic<int> requeued{0};
  platform::Atomic<int> stop{0};
  Work work{this, &Restless::run};
};

TEST(FlushRules, Rule14FlushWaitsForTheLastQueueingAndItsRun) {
  under_many_schedules([] {
    struct Slow {
      void run(Work&) {
        sleep_for(30us);
        value = 7;
      }
      int value = 0;  // plain: the flush must order it
      Work work{this, &Slow::run};
    };
    auto engine = make_engine();
    Slow slow;
    engine->queue_work_on(2, engine->system_wq(), slow.work);
    engine->flush_work(slow.work);
    EXPECT_EQ(slow.value, 7);
    EXPECT_FALSE(engine->flush_work(slow.work));  // idle
  });
}

/// Flushes a pending work in a thread. True when the flush said so; it may as well have come only after the work had run.
bool flush_pending(Engine& engine) {
  Counter counter;
  EXPECT_FALSE(engine.flush_work(counter.work));  // never queued
  platform::Atomic<int> begun{0};
  platform::Atomic<int> flushed{0};
  bool waited = false;
  Occupied occupied(engine, 0);
  engine.queue_work_on(0, engine.system_wq(), counter.work);
  auto flusher = platform::Thread::create({.name = "flusher"}, [&] {
    begun.store(1);
    waited = engine.flush_work(counter.work);
    EXPECT_EQ(counter.runs.load(), 1);
    flushed.store(1);
  });
  if (!flusher) return false;
  const auto probe = platform::ThreadProbe::open(flusher->id());
  // Asleep where it waits for the work, or in a lock on its way there.
  EXPECT_TRUE(probe && eventually([&] { return begun.load() == 1 && probe->asleep(); }));
  EXPECT_EQ(flushed.load(), 0);
  occupied.release();
  flusher->join();
  EXPECT_EQ(flushed.load(), 1);
  return waited;
}

TEST(FlushRules, Rule14FlushOfAPendingWorkReturnsTrue) {
  under_many_schedules([] {
    auto engine = make_engine();
    EXPECT_TRUE(flush_pending(*engine) || flush_pending(*engine) || flush_pending(*engine));
  });
}

TEST(FlushRules, Rule14FlushDoesNotWaitForLaterRequeues) {
  under_many_schedules([] {
    auto engine = make_engine();
    Restless restless{*engine};
    engine->schedule_work(restless.work);
    for (int i = 0; i < 3; i++) engine->flush_work(restless.work);  // must return although the work never rests
    EXPECT_GE(restless.runs.load(), 1);
    restless.stop.store(1);
    engine->cancel_work_sync(restless.work);
  });
}

TEST(FlushRules, Rule14AnArmedTimerIsNotFlushed) {
  under_many_schedules([] {
    struct Late {
      void run(Work&) { runs.fetch_add(1); }
      platform::Atomic<int> runs{0};
      DelayedWork work{this, &Late::run};
    };
    auto engine = make_engine();
    Late late;
    EXPECT_TRUE(engine->queue_delayed_work(engine->system_wq(), late.work, 1h));
    EXPECT_FALSE(engine->flush_work(late.work.work()));
    EXPECT_TRUE(late.work.is_pending());
    EXPECT_EQ(late.runs.load(), 0);
    EXPECT_TRUE(engine->cancel_delayed_work_sync(late.work));
  });
}

// Flushes, and then uses the stack that the barrier lay on.
[[gnu::noinline]] bool flush_deeply(Engine& engine, Work& work) {
  std::array<std::uint64_t, 32> pad{};
  pad.fill(0x5aU);
  engine.flush_work(work);
  for (const std::uint64_t word : pad) {
    if (word != 0x5aU) return false;
  }
  return true;
}

[[gnu::noinline]] bool scribble() {
  std::array<volatile std::uint64_t, 256> stack{};
  for (volatile auto& word : stack) word = 0xa5a5a5a5a5a5a5a5U;
  platform::this_thread::yield();
  for (const volatile auto& word : stack) {
    if (word != 0xa5a5a5a5a5a5a5a5U) return false;
  }
  return true;
}

TEST(FlushRules, Rule15NothingTouchesTheBarrierAfterTheWakeUp) {
  under_many_schedules([] {
    auto engine = make_engine();
    Counter counter;
    in_threads(3, [&](unsigned cpu) {
      for (int i = 0; i < 3; i++) {
        engine->queue_work_on(static_cast<int>(cpu), engine->system_wq(), counter.work);
        EXPECT_TRUE(flush_deeply(*engine, counter.work));
        EXPECT_TRUE(scribble());
      }
    });
    engine->cancel_work_sync(counter.work);
  });
}

TEST(FlushRules, Rule15SeveralFlushersOfOneWorkAllReturn) {
  under_many_schedules([] {
    auto engine = make_engine();
    Counter counter;
    Occupied occupied(*engine, 1);
    engine->queue_work_on(1, engine->system_wq(), counter.work);
    platform::Atomic<int> waiting{0};
    in_threads(4, [&](unsigned thread) {
      // The last one lets the work run; the others wait for it by then, or find it done.
      if (waiting.fetch_add(1) + 1 == 4) occupied.release();
      engine->flush_work(counter.work);
      EXPECT_EQ(counter.runs.load(), 1) << "thread " << thread;
    });
  });
}

TEST(CancelRules, Rule20AfterCancelSyncAWorkIsNeitherPendingNorRunning) {
  under_many_schedules([] {
    auto engine = make_engine();
    Restless restless{*engine};
    engine->schedule_work(restless.work);
    for (int i = 0; i < 3; i++) platform::this_thread::yield();
    engine->cancel_work_sync(restless.work);
    const int runs = restless.runs.load();
    EXPECT_FALSE(restless.work.is_pending());
    EXPECT_FALSE(engine->flush_work(restless.work));
    EXPECT_EQ(restless.runs.load(), runs);
    restless.stop.store(1);
    EXPECT_TRUE(engine->schedule_work(restless.work));  // usable again
    engine->flush_work(restless.work);
    EXPECT_EQ(restless.runs.load(), runs + 1);
  });
}

TEST(CancelRules, Rule20QueueingDuringCancelSyncReturnsFalse) {
  under_many_schedules([] {
    struct Held {
      void run(Work& self) {
        started.complete();
        EXPECT_TRUE(eventually([&] { return cancelling.load() != 0; }));
        // The canceller disables before it waits for this run, so from some point on this must be refused.
        EXPECT_TRUE(eventually([&] {
          if (!engine.schedule_work(self)) return true;
          engine.cancel_work(self);
          return false;
        }));
      }
      Engine& engine;
      Completion started{};
      platform::Atomic<int> cancelling{0};
      Work work{this, &Held::run};
    };
    auto engine = make_engine();
    Held held{*engine};
    engine->queue_work_on(0, engine->system_wq(), held.work);
    held.started.wait();
    held.cancelling.store(1);
    engine->cancel_work_sync(held.work);
    EXPECT_FALSE(held.work.is_pending());
  });
}

TEST(CancelRules, Rule21ConcurrentCancelSyncAllReturnAndAnOuterDisableSurvives) {
  under_many_schedules([] {
    auto engine = make_engine();
    Restless restless{*engine};
    engine->schedule_work(restless.work);
    engine->disable_work(restless.work);
    in_threads(3, [&](unsigned) { engine->cancel_work_sync(restless.work); });
    EXPECT_FALSE(engine->schedule_work(restless.work));
    restless.stop.store(1);
    EXPECT_TRUE(engine->enable_work(restless.work));
    EXPECT_TRUE(engine->schedule_work(restless.work));
    engine->flush_work(restless.work);
  });
}

TEST(CancelRules, Rule22DisableAndEnableNest) {
  QuietLog quiet;
  under_many_schedules([] {
    auto engine = make_engine();
    Counter counter;
    Occupied occupied(*engine, 0);
    engine->queue_work_on(0, engine->system_wq(), counter.work);
    EXPECT_TRUE(engine->disable_work(counter.work));  // it was pending
    EXPECT_FALSE(engine->disable_work(counter.work));
    EXPECT_FALSE(engine->enable_work(counter.work));  // one level is left
    EXPECT_TRUE(engine->enable_work(counter.work));
    EXPECT_FALSE(counter.work.is_pending());          // what was lost stays lost
    EXPECT_FALSE(engine->enable_work(counter.work));  // unmatched: warns
    occupied.release();
    EXPECT_TRUE(engine->schedule_work(counter.work));
    engine->flush_work(counter.work);
    EXPECT_EQ(counter.runs.load(), 1);
  });
}

TEST(CancelRules, Rule23CancelDoesNotWaitForARun) {
  under_many_schedules([] {
    struct Held {
      void run(Work&) {
        started.complete();
        go_on.wait();
      }
      Completion started;
      Completion go_on;
      Work work{this, &Held::run};
    };
    auto engine = make_engine();
    Held held;
    engine->queue_work_on(0, engine->system_wq(), held.work);
    held.started.wait();
    EXPECT_FALSE(engine->cancel_work(held.work));  // returns while the run goes on
    EXPECT_FALSE(held.go_on.is_complete());
    EXPECT_TRUE(engine->schedule_work(held.work));
    EXPECT_TRUE(engine->cancel_work(held.work));  // the second queueing is taken back
    held.go_on.complete();
    engine->flush_work(held.work);
  });
}

TEST(CancelRules, Rule23CancelOfAPendingWorkTakesItBack) {
  under_many_schedules([] {
    auto engine = make_engine();
    Counter counter;
    {
      Occupied occupied(*engine, 0);
      engine->queue_work_on(0, engine->system_wq(), counter.work);
      platform::Atomic<int> taken{0};
      in_threads(3, [&](unsigned) {
        if (engine->cancel_work(counter.work)) taken.fetch_add(1);
      });
      EXPECT_EQ(taken.load(), 1);
    }
    EXPECT_EQ(counter.runs.load(), 0);
  });
}

TEST(CancelRules, Rule23CancelRacingWithTheRunIsDecidedOnce) {
  under_many_schedules([] {
    auto engine = make_engine();
    Counter counter;
    int taken = 0;
    int queued = 0;
    for (int i = 0; i < 6; i++) {
      if (engine->queue_work_on(1, engine->system_wq(), counter.work)) queued++;
      if (engine->cancel_work(counter.work)) taken++;
    }
    engine->flush_work(counter.work);
    EXPECT_EQ(counter.runs.load(), queued - taken);
  });
}

TEST(CancelRules, Rule23CancelMayBeCalledFromATopHalf) {
  under_many_schedules([] {
    struct Source {
      static void top_half(void* context) {
        auto& self = *static_cast<Source*>(context);
        self.eventfd.drain();
        self.taken.store(self.engine.cancel_work(self.counter.work) ? 1 : 2);
      }
      Engine& engine;
      EventFd eventfd;
      Counter counter{};
      platform::Atomic<int> taken{0};
      EventSource source{&top_half, this};
    };
    auto engine = make_engine();
    Source source{.engine = *engine, .eventfd = *EventFd::create()};
    ASSERT_TRUE(engine->add_event_source(source.source, source.eventfd.fd(), 2).has_value());
    Occupied occupied(*engine, 0);
    engine->queue_work_on(0, engine->system_wq(), source.counter.work);
    source.eventfd.signal();
    EXPECT_TRUE(eventually([&] { return source.taken.load() != 0; }));
    EXPECT_EQ(source.taken.load(), 1);
    engine->remove_event_source(source.source);
  });
}

TEST(CancelRules, Rule23CancelDelayedWorkTakesBackAPendingTimer) {
  under_many_schedules([] {
    struct Late {
      void run(Work&) { runs.fetch_add(1); }
      platform::Atomic<int> runs{0};
      DelayedWork work{this, &Late::run};
    };
    auto engine = make_engine();
    Late late;
    for (int cpu = 0; cpu < 4; cpu++) {  // its timer moves from pool to pool
      EXPECT_TRUE(engine->queue_delayed_work_on(cpu, engine->system_wq(), late.work, 1h));
      EXPECT_FALSE(engine->queue_delayed_work_on(cpu, engine->system_wq(), late.work, 1h));
      EXPECT_TRUE(engine->cancel_delayed_work(late.work));
      EXPECT_FALSE(engine->cancel_delayed_work(late.work));
    }
    EXPECT_EQ(late.runs.load(), 0);
  });
}

TEST(CancelRules, Rule23CancelDelayedWorkRacingWithExpiryIsDecidedOnce) {
  under_many_schedules(
      [] {
        struct Late {
          void run(Work&) { runs.fetch_add(1); }
          platform::Atomic<int> runs{0};
          DelayedWork work{this, &Late::run};
        };
        auto engine = make_engine();
        Late late;
        int queued = 0;
        platform::Atomic<int> taken{0};
        for (int i = 0; i < 4; i++) {
          if (engine->queue_delayed_work_on(i, engine->system_wq(), late.work, 100us)) queued++;
          in_threads(2, [&](unsigned thread) {
            sleep_for(thread == 0 ? 100us : 90us);
            if (engine->cancel_delayed_work(late.work)) taken.fetch_add(1);
          });
        }
        engine->cancel_delayed_work_sync(late.work);
        EXPECT_EQ(late.runs.load() + taken.load(), queued);
      },
      20);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
