// SPDX-License-Identifier: Apache-2.0
// Rules 9, 10 and 31: who counts as running, where items run, and items that sleep for what a later one gives.
#include <unistd.h>

#include <cstdint>

#include "tests/workqueue/rules.h"
#include "workqueue/snapshot.h"

namespace upci::inline UPCI_VARIANT::test {

// Named functions with a name of their own, since a report must show them.
struct Deadlock : Work {
  explicit Deadlock(WorkFunction::Plain function) noexcept : Work(function) {}
  Completion* gift = nullptr;
};
[[gnu::noinline]] void sleeps_for_the_later_item(Work& work) { static_cast<Deadlock&>(work).gift->wait(); }
[[gnu::noinline]] void gives_to_the_earlier_item(Work& work) { static_cast<Deadlock&>(work).gift->complete(); }

namespace {

/// Uses the CPU for about so long, as the hog detection sees it.
void compute(platform::Nanoseconds span) {
#if defined(UPCI_SIM)
  platform::sim::consume(span);
#else
  const auto end = platform::Clock::now() + span;
  while (platform::Clock::now() < end) platform::relax();
#endif
}

std::uint64_t intensive_items(Engine& engine, const std::string& queue) {
  for (const WorkqueueSnapshot& shot : engine.snapshot(false).workqueues) {
    if (shot.name == queue) return shot.cpu_intensive;
  }
  return 0;
}

TEST(ConcurrencyRules, Rule09CpuIntensiveItemsDoNotCountAsRunning) {
  under_many_schedules([] {
    auto engine = make_engine();
    auto queue = make_queue(*engine, kWqPercpu | kWqCpuIntensive);
    platform::Atomic<int> others{0};
    // Each spins until all are under way, on one CPU: three intensive ones and one that is not.
    const auto spin = [&others] {
      others.fetch_add(1);
      while (others.load() < 4) platform::this_thread::yield();
    };
    Tasks tasks;
    for (int i = 0; i < 4; i++) tasks.push_back(std::make_unique<Task>(spin));
    for (int i = 0; i < 3; i++) engine->queue_work_on(1, *queue, tasks[static_cast<std::size_t>(i)]->work);
    engine->queue_work_on(1, engine->system_wq(), tasks[3]->work);
    for (const auto& task : tasks) engine->flush_work(task->work);
    EXPECT_EQ(others.load(), 4);
  });
}

TEST(ConcurrencyRules, Rule09UnboundItemsDoNotCountAsRunning) {
  under_many_schedules([] {
    auto engine = make_engine();
    auto queue = make_queue(*engine, kWqUnbound);
    platform::Atomic<int> others{0};
    Tasks tasks;
    for (int i = 0; i < 3; i++) {
      tasks.push_back(std::make_unique<Task>([&others] {
        others.fetch_add(1);
        while (others.load() < 3) platform::this_thread::yield();
      }));
      engine->queue_work_on(2, *queue, tasks.back()->work);  // one CPU, thus one pool
    }
    for (const auto& task : tasks) engine->flush_work(task->work);
    EXPECT_EQ(others.load(), 3);
  });
}

TEST(ConcurrencyRules, Rule09AnItemPastTheThresholdIsReclassifiedAndCounted) {
  under_many_schedules(
      [] {
        Engine::Options options = engine_options();
        options.hog_threshold = 2ms;
        auto engine = make_engine(std::move(options));
        auto queue = make_queue(*engine, kWqPercpu, 0, "hog");
        platform::Atomic<int> release{0};
        Task hog([&release] {
          while (release.load() == 0) compute(200us);
        });
        Counter next;
        engine->queue_work_on(1, *queue, hog.work);
        engine->queue_work_on(1, engine->system_wq(), next.work);
        engine->flush_work(next.work);  // it starts although the first one never sleeps
        EXPECT_EQ(hog.runs.load(), 0);
        EXPECT_EQ(intensive_items(*engine, "hog"), 1U);
        release.store(1);
        engine->flush_work(hog.work);
      },
      5);
}

#if defined(UPCI_SIM)
TEST(ConcurrencyRules, Rule09BelowTheThresholdNothingChanges) {
  under_many_schedules([] {
    Engine::Options options = engine_options();
    options.hog_threshold = 10ms;
    auto engine = make_engine(std::move(options));
    Counter next;
    Task busy([&next] {
      for (int i = 0; i < 9; i++) {
        compute(1ms);
        EXPECT_EQ(next.runs.load(), 0);
      }
    });
    engine->queue_work_on(1, engine->system_wq(), busy.work);
    engine->queue_work_on(1, engine->system_wq(), next.work);
    engine->flush_work(next.work);
    EXPECT_EQ(intensive_items(*engine, "events"), 0U);
  });
}

TEST(ConcurrencyRules, Rule09HogsAreReportedFromTheFourthOnBackingOff) {
  for_each_seed(3, [] {
    Reports reports;
    Engine::Options options = engine_options();
    options.hog_threshold = 2ms;
    options.report = reports.sink();
    auto engine = make_engine(std::move(options));
    Task hog([] { compute(10ms); });
    for (const auto& [runs, expected] : {std::pair(3, 0U), {4, 1U}, {7, 1U}, {8, 2U}, {15, 2U}, {16, 3U}}) {
      while (hog.runs.load() < runs) {
        engine->queue_work_on(1, engine->system_wq(), hog.work);
        engine->flush_work(hog.work);
        engine->work_on_cpu(1, [] {});
      }
      sleep_for(50ms);
      EXPECT_EQ(reports.count(Report::Kind::kHog), expected) << "after " << runs;
    }
    EXPECT_NE(reports.first(Report::Kind::kHog).find("hogged its CPU"), std::string::npos);
  });
}
#endif

TEST(ConcurrencyRules, Rule10BoundItemsRunOnTheirCpu) {
  under_many_schedules([] {
    auto engine = make_engine();
    auto highpri = make_queue(*engine, kWqPercpu | kWqHighpri);
    for (const Topology::Cpu& cpu : engine->topology().cpus()) {
      for (Workqueue* queue : {&engine->system_wq(), highpri.get()}) {
        int seen = -1;
        int seen_os = -1;
        Task task([&] {
          seen = engine->current_worker_cpu();
          seen_os = platform::this_thread::current_cpu();
        });
        engine->queue_work_on(cpu.id, *queue, task.work);
        engine->flush_work(task.work);
        EXPECT_EQ(seen, cpu.id);
        EXPECT_EQ(seen_os, cpu.os_cpu);
      }
    }
  });
}

TEST(ConcurrencyRules, Rule10WhileTheCpuIsGoneItsPoolProgresses) {
  under_many_schedules([] {
    auto engine = make_engine();
    Gate gate;
    Tasks early = gate.tasks(1);
    engine->queue_work_on(1, engine->system_wq(), early[0]->work);
    EXPECT_TRUE(eventually([&] { return gate.started() == 1; }));
    ASSERT_TRUE(engine->cpu_offline(1).has_value());
    // Nobody's concurrency is managed: these spin for each other.
    platform::Atomic<int> others{0};
    Tasks tasks;
    for (int i = 0; i < 2; i++) {
      tasks.push_back(std::make_unique<Task>([&others] {
        others.fetch_add(1);
        while (others.load() < 2) platform::this_thread::yield();
      }));
      EXPECT_TRUE(engine->queue_work_on(1, engine->system_wq(), tasks.back()->work));
    }
    for (const auto& task : tasks) engine->flush_work(task->work);
    gate.open();
    engine->flush_work(early[0]->work);
    EXPECT_EQ(others.load(), 2);
  });
}

TEST(ConcurrencyRules, Rule10WhenTheCpuIsBackItsPoolIsBoundAgain) {
  under_many_schedules([] {
    auto engine = make_engine();
    ASSERT_TRUE(engine->cpu_offline(1).has_value());
    EXPECT_TRUE(engine->work_on_cpu(1, [] {}).has_value());
    ASSERT_TRUE(engine->cpu_online(1).has_value());
    auto where = engine->work_on_cpu(1, [] { return platform::this_thread::current_cpu(); });
    ASSERT_TRUE(where.has_value());
    EXPECT_EQ(*where, engine->topology().find(1)->os_cpu);
    // Concurrency is managed again: the second one waits for the first.
    Counter next;
    {
      Occupied occupied(*engine, 1);
      engine->queue_work_on(1, engine->system_wq(), next.work);
      for (int i = 0; i < 50; i++) platform::this_thread::yield();
      EXPECT_EQ(next.runs.load(), 0);
    }
    engine->flush_work(next.work);
  });
}

TEST(ConcurrencyRules, Rule10WhatIsQueuedOnceTheCpuIsBackRunsThere) {
  under_many_schedules([] {
    auto engine = make_engine();
    const int home = engine->topology().find(1)->os_cpu;
    Task early([] {});
    Task late([home] { EXPECT_EQ(platform::this_thread::current_cpu(), home); });
    for (int i = 0; i < 4; i++) {
      ASSERT_TRUE(engine->cpu_offline(1).has_value());
      engine->queue_work_on(1, engine->system_wq(), early.work);  // for which a worker gets ready to run anywhere
      if (i % 2 == 0) platform::this_thread::yield();
      ASSERT_TRUE(engine->cpu_online(1).has_value());
      engine->cancel_work(early.work);
      EXPECT_TRUE(engine->queue_work_on(1, engine->system_wq(), late.work));
      engine->flush_work(late.work);
      engine->flush_work(early.work);
    }
    EXPECT_EQ(late.runs.load(), 4);
  });
}

TEST(ConcurrencyRules, Rule10NothingIsLostWhileTheCpuGoesAndComes) {
  under_many_schedules([] {
    auto engine = make_engine();
    std::vector<std::unique_ptr<Counter>> counters;
    for (int i = 0; i < 8; i++) counters.push_back(std::make_unique<Counter>());
    platform::Atomic<int> queued{0};
    in_threads(3, [&](unsigned thread) {
      if (thread == 0) {
        for (int i = 0; i < 2; i++) {
          EXPECT_TRUE(engine->cpu_offline(1).has_value());
          EXPECT_TRUE(engine->cpu_online(1).has_value());
        }
        return;
      }
      for (unsigned i = 0; i < 8; i++) {
        if (engine->queue_work_on(1, engine->system_wq(), counters[i]->work)) queued.fetch_add(1);
      }
    });
    int runs = 0;
    for (const auto& counter : counters) {
      engine->flush_work(counter->work);
      runs += counter->runs.load();
    }
    EXPECT_EQ(runs, queued.load());
  });
}

TEST(ConcurrencyRules, Rule10NothingIsLostWhileTheCpuGoesAndItemsAreTakenBack) {
  under_many_schedules([] {
    auto engine = make_engine();
    // While one run sleeps, the next is put on the list of the worker that runs it.
    Task task([] { sleep_for(5us); });
    platform::Atomic<int> due{0};
    in_threads(3, [&](unsigned thread) {
      for (int i = 0; i < 6; i++) {
        if (thread == 0) {
          EXPECT_TRUE((i % 2 == 0 ? engine->cpu_offline(1) : engine->cpu_online(1)).has_value());
        } else if (thread == 1) {
          if (engine->queue_work_on(1, engine->system_wq(), task.work)) due.fetch_add(1);
          sleep_for(2us);
        } else {
          sleep_for(3us);
          if (engine->cancel_work(task.work)) due.fetch_sub(1);
        }
      }
    });
    engine->flush_work(task.work);
    EXPECT_EQ(task.runs.load(), due.load());
  });
}

TEST(ConcurrencyRules, Rule10TheLastCpuAndAnUnknownOneStay) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        for (int cpu = 0; cpu < 3; cpu++) EXPECT_TRUE(engine->cpu_offline(cpu).has_value());
        EXPECT_EQ(engine->cpu_offline(3).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->cpu_offline(4).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->cpu_online(-1).error().code, Errc::kInvalid);
        for (int cpu = 0; cpu < 4; cpu++) EXPECT_TRUE(engine->work_on_cpu(cpu, [] {}).has_value());
        for (int cpu = 0; cpu < 3; cpu++) EXPECT_TRUE(engine->cpu_online(cpu).has_value());
      },
      5);
}

#if defined(UPCI_SIM)
TEST(ConcurrencyRules, Rule10TheEngineSeesForItselfThatACpuGoesAndComes) {
  under_many_schedules(
      [] {
        const QuietLog quiet;
        auto engine = make_engine();
        EXPECT_TRUE(engine->work_on_cpu(1, [] {}).has_value());
        platform::sim::set_online(1, false);
        for (int i = 0; i < 3; i++) {
          EXPECT_TRUE(engine->work_on_cpu(1, [] { compute(600ms); }).has_value());
        }
        platform::sim::set_online(1, true);
        for (int i = 0; i < 3; i++) {
          auto where = engine->work_on_cpu(1, [] {
            compute(600ms);
            return platform::this_thread::current_cpu();
          });
          ASSERT_TRUE(where.has_value());
          EXPECT_TRUE(i != 2 || *where == 1);
        }
      },
      1, 200);
}
#endif

/// How the first item waits for the second.
void wait_for(const Completion& gift, int how, int pipe) {
  switch (how) {
    case 0: const_cast<Completion&>(gift).wait(); return;
    case 1:  // unannounced
      while (!gift.is_complete()) platform::this_thread::sleep_until(platform::Clock::now() + 1ms);
      return;
    default:
#if !defined(UPCI_SIM)
      char byte = 0;
      EXPECT_EQ(::read(pipe, &byte, 1), 1);
#else
      (void)pipe;
      while (!gift.is_complete()) {
        const platform::Atomic<std::uint32_t> word{0};
        platform::wait_word(word, 0, platform::Clock::now() + 10ms);
      }
#endif
  }
}

TEST(ConcurrencyRules, Rule31OnABoundPoolTheDeadlockResolvesByItself) {
  under_many_schedules(
      [] {
        for (int how = 0; how < 3; how++) {
          auto engine = make_engine();
          int pipe[2] = {-1, -1};
          ASSERT_EQ(::pipe(pipe), 0);
          Completion gift;
          Task sleeper([&] { wait_for(gift, how, pipe[0]); });
          Task giver([&] {
            gift.complete();
            EXPECT_EQ(::write(pipe[1], "", 1), 1);
          });
          {
            Occupied occupied(*engine, 1);
            engine->queue_work_on(1, engine->system_wq(), sleeper.work);
            engine->queue_work_on(1, engine->system_wq(), giver.work);
          }
          engine->flush_work(sleeper.work);
          EXPECT_EQ(sleeper.runs.load(), 1);
          engine->flush_work(giver.work);
          ::close(pipe[0]);
          ::close(pipe[1]);
        }
      },
      10);
}

TEST(ConcurrencyRules, Rule31OnAnOrderedQueueBothItemsAreNamed) {
  under_many_schedules(
      [] {
        Reports reports;
        Engine::Options options = engine_options();
        options.watchdog = 20ms;
        options.report = reports.sink();
        auto engine = make_engine(std::move(options));
        auto queue = make_ordered(*engine);
        Completion gift;
        Deadlock first(&sleeps_for_the_later_item);
        Deadlock second(&gives_to_the_earlier_item);
        first.gift = second.gift = &gift;
        engine->queue_work(*queue, first);
        engine->queue_work(*queue, second);
        EXPECT_TRUE(eventually([&] { return reports.count(Report::Kind::kStall) >= 1; }));
        const std::string text = reports.first(Report::Kind::kStall);
        EXPECT_NE(text.find("sleeps_for_the_later_item"), std::string::npos) << text;
        EXPECT_NE(text.find("gives_to_the_earlier_item"), std::string::npos) << text;
        EXPECT_NE(text.find("'ordered'"), std::string::npos) << text;
        // What it would have given is given from outside.
        EXPECT_TRUE(engine->cancel_work(second));
        gift.complete();
        engine->flush_workqueue(*queue);
      },
      3, 4);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
