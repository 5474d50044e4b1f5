// SPDX-License-Identifier: Apache-2.0
// The rest of the engine: delays, work_on_cpu, event sources, placement, life and death.
#include "base/event_fd.h"
#include "tests/workqueue/rules.h"
#include "workqueue/timer.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

struct Stamp {
  void run(Work&) {
    when = platform::Clock::now();
    done.complete();
  }
  platform::TimePoint when{};
  Completion done;
  DelayedWork work{this, &Stamp::run};
};

TEST(Engine, DelayedWorkRunsNeverEarly) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        Stamp stamp;
        const auto before = platform::Clock::now();
        engine->queue_delayed_work_on(1, engine->system_wq(), stamp.work, 2ms);
        stamp.done.wait();
        EXPECT_GE(stamp.when - before, 2ms);
        engine->flush_work(stamp.work.work());
      },
      5);
}

#if defined(UPCI_SIM)
TEST(Engine, DelayedWorkIsExactOnTheSimulatedClock) {
  // Ten minutes, and an earlier timer that is armed later, on the same CPU.
  for_each_seed(200, [] {
    auto engine = make_engine();
    Stamp late;
    Stamp soon;
    const auto before = platform::Clock::now();
    engine->queue_delayed_work_on(1, engine->system_wq(), late.work, 600s);
    engine->queue_delayed_work_on(1, engine->system_wq(), soon.work, 1s);
    late.done.wait();
    soon.done.wait();
    // Calls take no time; what spins may move the clock by microseconds.
    EXPECT_GE(late.when - before, 600s);
    EXPECT_LT(late.when - before, 600s + 1ms);
    EXPECT_GE(soon.when - before, 1s);
    EXPECT_LT(soon.when - before, 1s + 1ms);
    engine->flush_work(late.work.work());
    engine->flush_work(soon.work.work());
  });
}
#endif

TEST(Engine, ADelayOfZeroQueuesAtOnce) {
  under_many_schedules([] {
    auto engine = make_engine();
    Stamp stamp;
    EXPECT_TRUE(engine->queue_delayed_work(engine->system_highpri_wq(), stamp.work, 0ns));
    engine->flush_work(stamp.work.work());
    EXPECT_TRUE(stamp.done.is_complete());
  });
}

TEST(Engine, WorkOnCpuRunsOnThatCpuAndReturnsItsValue) {
  under_many_schedules([] {
    auto engine = make_engine();
    for (int cpu = 0; cpu < 4; cpu++) {
      auto ran_on = engine->work_on_cpu(cpu, [&] { return engine->current_worker_cpu(); });
      ASSERT_TRUE(ran_on.has_value());
      EXPECT_EQ(*ran_on, cpu);
    }
    EXPECT_EQ(engine->current_worker_cpu(), -1);
  });
}

TEST(Engine, WorkOnCpuFromAWorkerOfThatCpuDoesNotDeadlock) {
  under_many_schedules([] {
    auto engine = make_engine();
    auto nested = engine->work_on_cpu(1, [&] { return engine->work_on_cpu(1, [] { return 5; }); });
    ASSERT_TRUE(nested.has_value());
    ASSERT_TRUE(nested->has_value());
    EXPECT_EQ(**nested, 5);
  });
}

TEST(Engine, WorkOnCpuGivesUpAtItsDeadlineAndTheCpuGoesOn) {
  int given_up = 0;
  under_many_schedules(
      [&given_up] {
        struct Shared {
          platform::Atomic<int> started{0};
          platform::Atomic<int> release{0};
          Completion ended;
        };
        auto engine = make_engine();
        auto shared = std::make_shared<Shared>();
        const auto before = platform::Clock::now();
        // Spins: it never sleeps, so only being written off lets others start.
        auto result = engine->work_on_cpu(2, Deadline::after(20ms), [shared] {
          shared->started.store(1);
          while (shared->release.load() == 0) platform::this_thread::yield();
          shared->ended.complete();
        });
        EXPECT_GE(platform::Clock::now() - before, 20ms);
        ASSERT_FALSE(result.has_value());
        EXPECT_EQ(result.error().code, Errc::kTimeout);
        if (shared->started.load() == 0) return;  // a busy machine: it did not even start, and never will
        given_up++;
        EXPECT_EQ(engine->stats(2).written_off, 1U);
        auto next = engine->work_on_cpu(2, [] { return 1; });
        ASSERT_TRUE(next.has_value());
        EXPECT_FALSE(shared->ended.is_complete());
        shared->release.store(1);
        shared->ended.wait();
        EXPECT_TRUE(engine->work_on_cpu(2, [] { return 1; }).has_value());
      },
      10);
  EXPECT_GE(given_up, 1);
}

TEST(Engine, WorkOnCpuThatCouldNotStartIsTakenBack) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        auto ran = std::make_shared<platform::Atomic<int>>(0);
        {
          Occupied occupied(*engine, 0);
          auto result = engine->work_on_cpu(0, Deadline::after(1ms), [ran] { ran->store(1); });
          ASSERT_FALSE(result.has_value());
          EXPECT_EQ(result.error().code, Errc::kTimeout);
        }
        EXPECT_TRUE(engine->work_on_cpu(0, [] {}).has_value());
        EXPECT_EQ(ran->load(), 0);
        EXPECT_EQ(ran.use_count(), 1);
      },
      10);
}

TEST(Engine, ACpuThatDoesNotExistIsRefused) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        Counter counter;
        EXPECT_FALSE(engine->queue_work_on(4, engine->system_wq(), counter.work));
        EXPECT_FALSE(engine->queue_work_on(-7, engine->system_wq(), counter.work));
        EXPECT_FALSE(counter.work.is_pending());
        EXPECT_EQ(engine->work_on_cpu(99, [] {}).error().code, Errc::kInvalid);
      },
      3);
}

TEST(Engine, QueueWorkNodePicksACpuOfTheNode) {
  under_many_schedules([] {
    struct Where {
      void run(Work&) { cpu = engine.current_worker_cpu(); }
      Engine& engine;
      int cpu = -1;
      Work work{this, &Where::run};
    };
    auto engine = make_engine();
    Where where{*engine};
    for (int node = 0; node < 2; node++) {
      EXPECT_TRUE(engine->queue_work_node(node, engine->system_wq(), where.work));
      engine->flush_work(where.work);
      EXPECT_EQ(where.cpu / 2, node);
    }
    EXPECT_TRUE(engine->queue_work_node(17, engine->system_wq(), where.work));  // no such node: any CPU
    engine->flush_work(where.work);
  });
}

struct Source {
  explicit Source(Engine& owner) : engine(owner), eventfd(*EventFd::create()) {}
  static void top_half(void* context) {
    auto& self = *static_cast<Source*>(context);
    EXPECT_EQ(self.inside.fetch_add(1), 0);
    if (self.eventfd.drain() != 0) self.engine.queue_work_on(self.cpu, self.engine.system_wq(), self.bottom);
    self.inside.fetch_sub(1);
  }
  void bottom_half(Work&) {
    EXPECT_EQ(engine.current_worker_cpu(), cpu);
    runs.fetch_add(1);
  }
  Engine& engine;
  EventFd eventfd;
  int cpu = 1;
  platform::Atomic<int> inside{0};
  platform::Atomic<int> runs{0};
  Work bottom{this, &Source::bottom_half};
  EventSource source{&top_half, this};
};

TEST(Engine, AnEventLeadsToItsBottomHalfOnTheSameCpu) {
  under_many_schedules([] {
    auto engine = make_engine();
    Source source(*engine);
    ASSERT_TRUE(engine->add_event_source(source.source, source.eventfd.fd(), source.cpu).has_value());
    for (int i = 1; i <= 5; i++) {
      source.eventfd.signal();
      EXPECT_TRUE(eventually([&] { return source.runs.load() == i; }));
    }
    engine->remove_event_source(source.source);
    source.eventfd.signal();
    engine->cancel_work_sync(source.bottom);
    EXPECT_EQ(source.runs.load(), 5);
  });
}

TEST(Engine, OneWakeUpLeadsFromTheEventToTheBottomHalf) {
  under_many_schedules([] {
    auto engine = make_engine();
    Source source(*engine);
    ASSERT_TRUE(engine->add_event_source(source.source, source.eventfd.fd(), source.cpu).has_value());
    source.eventfd.signal();
    EXPECT_TRUE(eventually([&] { return source.runs.load() == 1; }));  // the standby worker exists now
    const PoolStats before = engine->stats(source.cpu);
    constexpr int kEvents = 20;
    for (int i = 1; i <= kEvents; i++) {
      source.eventfd.signal();
      EXPECT_TRUE(eventually([&] { return source.runs.load() == 1 + i; }));
    }
    const PoolStats after = engine->stats(source.cpu);
    EXPECT_EQ(after.events - before.events, static_cast<unsigned>(kEvents));
    // A worker that has just run a bottom half may be signalled before it sleeps again; it never takes two wake-ups.
    EXPECT_LE(after.wakeups - before.wakeups, static_cast<unsigned>(kEvents));
    engine->remove_event_source(source.source);
  });
}

TEST(Engine, RemovingAnEventSourceWaitsForItsTopHalf) {
  under_many_schedules([] {
    auto engine = make_engine();
    auto source = std::make_unique<Source>(*engine);
    ASSERT_TRUE(engine->add_event_source(source->source, source->eventfd.fd(), source->cpu).has_value());
    source->eventfd.signal();
    platform::this_thread::yield();
    engine->remove_event_source(source->source);
    EXPECT_EQ(source->inside.load(), 0);
    engine->cancel_work_sync(source->bottom);
    source.reset();  // nothing may touch it any more
    EXPECT_TRUE(engine->work_on_cpu(1, [] {}).has_value());
  });
}

TEST(Engine, EventsAreServedWhileAnItemOccupiesTheCpu) {
  under_many_schedules([] {
    auto engine = make_engine();
    Source source(*engine);
    ASSERT_TRUE(engine->add_event_source(source.source, source.eventfd.fd(), source.cpu).has_value());
    {
      Occupied occupied(*engine, source.cpu);
      const auto events = engine->stats(source.cpu).events;
      source.eventfd.signal();  // as an interrupt: the top half does not wait for the item
      EXPECT_TRUE(eventually([&] { return engine->stats(source.cpu).events == events + 1; }));
      EXPECT_EQ(source.runs.load(), 0);  // but its bottom half does
    }
    EXPECT_TRUE(eventually([&] { return source.runs.load() == 1; }));
    engine->remove_event_source(source.source);
    engine->cancel_work_sync(source.bottom);
  });
}

TEST(Engine, TwoEnginesLiveInOneProcess) {
  under_many_schedules(
      [] {
        auto one = make_engine();
        auto two = make_engine();
        auto result = one->work_on_cpu(1, [&] {
          EXPECT_EQ(two->current_worker_cpu(), -1);
          return two->work_on_cpu(1, [&] { return two->current_worker_cpu() * 10 + one->current_worker_cpu(); });
        });
        ASSERT_TRUE(result.has_value());
        EXPECT_EQ(**result, 9);
      },
      10);
}

TEST(Engine, EndsWhileAnItemStillRuns) {
  QuietLog quiet;
  under_many_schedules(
      [] {
        struct Shared {
          platform::Atomic<int> release{0};
          Completion started;
          Completion ended;
        };
        auto shared = std::make_shared<Shared>();
        {
          auto engine = *Engine::create({.topology = small_topology(), .teardown = 1ms});
          auto result = engine->work_on_cpu(0, Deadline::after(1ms), [shared] {
            shared->started.complete();
            while (shared->release.load() == 0) platform::this_thread::yield();
            shared->ended.complete();
          });
          if (shared->started.is_complete()) {
            EXPECT_FALSE(result.has_value());
          } else {
            shared->ended.complete();  // it could not even start in its millisecond
          }
        }
        shared->release.store(1);
        shared->ended.wait();
        EXPECT_TRUE(eventually([&] { return shared.use_count() == 1; }));
      },
      5);
}

// Whoever makes a worker may be passed by when there is no time left: what it makes is nobody's then, and ends by itself.
TEST(Engine, EndsWhileAWorkerIsBeingMade) {
  QuietLog quiet;
  under_many_schedules(
      [] {
        auto ended = std::make_shared<platform::Atomic<int>>(0);
        {
          auto engine = *Engine::create({.topology = small_topology(), .teardown = 0ns});
          static_cast<void>(engine->work_on_cpu(0, Deadline::after(0ns), [ended] { ended->store(1); }));
        }
        EXPECT_TRUE(eventually([&] { return ended.use_count() == 1; }));
      },
      100);
}

TEST(Engine, DropsWhatIsPendingWhenItEnds) {
  under_many_schedules(
      [] {
        Stamp stamp;
        {
          auto engine = make_engine();
          engine->queue_delayed_work(engine->system_wq(), stamp.work, 1h);
        }
        EXPECT_FALSE(stamp.work.is_pending());
        EXPECT_FALSE(stamp.done.is_complete());
      },
      5);
}

TEST(Engine, CurrentWorkIsTheOneThatRuns) {
  under_many_schedules(
      [] {
        struct Self {
          void run(Work& running) { same = engine.current_work() == &running; }
          Engine& engine;
          bool same = false;
          Work work{this, &Self::run};
        };
        auto engine = make_engine();
        Self self{*engine};
        engine->schedule_work(self.work);
        engine->flush_work(self.work);
        EXPECT_TRUE(self.same);
        EXPECT_EQ(engine->current_work(), nullptr);
      },
      5);
}

TEST(Engine, NeedsATopology) {
  auto engine = Engine::create(Engine::Options{});
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().code, Errc::kInvalid);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
