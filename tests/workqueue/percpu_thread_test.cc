// SPDX-License-Identifier: Apache-2.0
// Rule 30: per-CPU threads. Setup comes before the first run, park and unpark alternate, cleanup mirrors setup, and the
// callbacks run on their own CPU.
#include "workqueue/percpu_thread.h"

#include <array>
#include <string>

#include "tests/workqueue/rules.h"

#if defined(UPCI_SIM)
#include "tests/explore.h"
#endif

namespace upci::inline UPCI_VARIANT::test {
namespace {

/// Writes down what is called: C create, S setup, R thread_fn, P park, U unpark, K cleanup.
class Recorder {
 public:
  explicit Recorder(const Topology& topology) : topology_(topology) {}

  PerCpuThread::Options options() {
    PerCpuThread::Options options;
    options.name = "rec/%u";
    options.callbacks = {
        .thread_should_run = [this](int cpu) { return wanted(cpu).load() != done(cpu).load(); },
        .thread_fn = [this](int cpu) { run(cpu); },
        .create = [this](int cpu) { note(cpu, 'C', false); },
        .setup = [this](int cpu) { note(cpu, 'S'); },
        .park = [this](int cpu) { note(cpu, 'P', park_on_own_cpu); },
        .unpark = [this](int cpu) { note(cpu, 'U'); },
        .cleanup = [this](int cpu, bool online) { note(cpu, online ? 'K' : 'k', false); },
    };
    return options;
  }

  void want(PerCpuThread& threads, int cpu) {
    wanted(cpu).fetch_add(1);
    threads.wake(cpu);
  }
  bool caught_up(int cpu) { return wanted(cpu).load() == done(cpu).load(); }
  std::string log(int cpu) {
    const std::lock_guard held(lock_);
    return logs_[static_cast<std::size_t>(cpu)];
  }
  /// C, or CS, then runs, then (P, U, runs) any number of times, perhaps P, then K: nothing else.
  void expect_in_order(int cpu) {
    const std::string log = this->log(cpu);
    std::size_t at = 0;
    const auto next = [&](char which) {
      if (at < log.size() && (log[at] == which || (which == 'K' && log[at] == 'k'))) {
        ++at;
        return true;
      }
      return false;
    };
    EXPECT_TRUE(next('C')) << log;
    if (at == log.size()) return;
    EXPECT_TRUE(next('S')) << log;
    do {
      while (next('R')) {}
    } while (next('P') && next('U'));
    EXPECT_TRUE(next('K')) << log;
    EXPECT_EQ(at, log.size()) << log;
  }

  bool park_on_own_cpu = true;

 private:
  void run(int cpu) {
    done(cpu).fetch_add(1);
    note(cpu, 'R');
  }
  void note(int cpu, char what, bool on_own_cpu = true) {
    if (on_own_cpu) { EXPECT_EQ(platform::this_thread::current_cpu(), topology_.find(cpu)->os_cpu) << what; }
    const std::lock_guard held(lock_);
    logs_[static_cast<std::size_t>(cpu)] += what;
  }
  platform::Atomic<int>& wanted(int cpu) { return wanted_[static_cast<std::size_t>(cpu)]; }
  platform::Atomic<int>& done(int cpu) { return done_[static_cast<std::size_t>(cpu)]; }

  const Topology& topology_;
  platform::Mutex lock_;
  std::array<std::string, 4> logs_;  // lock_
  std::array<platform::Atomic<int>, 4> wanted_{};
  std::array<platform::Atomic<int>, 4> done_{};
};

std::unique_ptr<PerCpuThread> start(PerCpuThread::Options options) {
  auto threads = PerCpuThread::create(small_topology(), std::move(options));
  EXPECT_TRUE(threads.has_value()) << (threads ? "" : threads.error().message());
  return threads ? std::move(*threads) : nullptr;
}

TEST(PerCpuThread, Rule30SetupComesBeforeTheFirstRunAndCleanupAfterTheLast) {
  under_many_schedules([] {
    Recorder recorder(small_topology());
    {
      auto threads = start(recorder.options());
      for (int i = 0; i < 3; ++i) {
        for (int cpu = 0; cpu < 4; ++cpu) recorder.want(*threads, cpu);
      }
    }  // it may end before a thread had its first turn: then there is neither setup nor cleanup
    for (int cpu = 0; cpu < 4; ++cpu) recorder.expect_in_order(cpu);
  });
}

TEST(PerCpuThread, Rule30NoWakeUpIsLost) {
  under_many_schedules([] {
    Recorder recorder(small_topology());
    auto threads = start(recorder.options());
    in_threads(2, [&](unsigned number) {
      for (int i = 0; i < 20; ++i) recorder.want(*threads, static_cast<int>(number) + (i % 2));
    });
    for (int cpu = 0; cpu < 4; ++cpu) {
      EXPECT_TRUE(eventually([&] { return recorder.caught_up(cpu); })) << cpu << ": " << recorder.log(cpu);
    }
    threads.reset();
    for (int cpu = 0; cpu < 4; ++cpu) recorder.expect_in_order(cpu);
  });
}

TEST(PerCpuThread, Rule30ParkAndUnparkAlternateAndNothingRunsInBetween) {
  under_many_schedules([] {
    Recorder recorder(small_topology());
    auto threads = start(recorder.options());
    in_threads(3, [&](unsigned number) {
      for (int i = 0; i < 6; ++i) {
        if (number == 0) {
          recorder.want(*threads, 1);
        } else if ((number == 1) == (i % 2 == 0)) {
          EXPECT_TRUE(threads->cpu_offline(1).has_value());
        } else {
          EXPECT_TRUE(threads->cpu_online(1).has_value());
        }
      }
    });
    EXPECT_TRUE(threads->cpu_offline(1).has_value());
    EXPECT_TRUE(threads->is_parked(1));
    const std::string parked = recorder.log(1);
    recorder.want(*threads, 1);
    sleep_for(100us);
    EXPECT_EQ(recorder.log(1), parked) << "it is parked";
    EXPECT_FALSE(recorder.caught_up(1));
    EXPECT_TRUE(threads->cpu_online(1).has_value());
    EXPECT_TRUE(eventually([&] { return recorder.caught_up(1); })) << "what was wanted meanwhile is done";
    threads.reset();
    recorder.expect_in_order(1);
  });
}

TEST(PerCpuThread, Rule30TheEndStopsParkedThreadsToo) {
  under_many_schedules([] {
    Recorder recorder(small_topology());
    auto threads = start(recorder.options());
    recorder.want(*threads, 2);
    EXPECT_TRUE(eventually([&] { return recorder.caught_up(2); }));
    EXPECT_TRUE(threads->cpu_offline(2).has_value());
    EXPECT_EQ(recorder.log(2).substr(0, 4), "CSRP");
    EXPECT_GT(threads->thread_id(2), 0);
    threads.reset();
    EXPECT_EQ(recorder.log(2), "CSRPK") << "no unpark: a parked thread cleans up as it is";
  });
}

TEST(PerCpuThread, Rule30SelfparkingOnesParkByTheirOwnersWillOnly) {
  under_many_schedules([] {
    Recorder recorder(small_topology());
    auto options = recorder.options();
    options.selfparking = true;
    auto threads = start(std::move(options));
    recorder.want(*threads, 0);
    EXPECT_TRUE(threads->cpu_offline(0).has_value());
    EXPECT_TRUE(threads->cpu_online(0).has_value());
    sleep_for(50us);
    EXPECT_EQ(recorder.log(0), "C") << "parked at first";
    EXPECT_TRUE(threads->unpark(0).has_value());
    EXPECT_TRUE(eventually([&] { return recorder.caught_up(0); }));
    EXPECT_TRUE(threads->cpu_offline(0).has_value());
    EXPECT_FALSE(threads->is_parked(0));
    EXPECT_TRUE(threads->park(0).has_value());
    threads.reset();
    EXPECT_EQ(recorder.log(0), "CSRPK");
    EXPECT_EQ(recorder.log(1), "C") << "never set up, so not cleaned up";
  });
}

TEST(PerCpuThread, Rule30WhatAThreadFnWroteIsSeenOnceItsCpuIsOffline) {
  under_many_schedules([] {
    int plain = 0;
    platform::Atomic<int> wanted{0};
    auto threads = start({.callbacks = {.thread_should_run = [&](int) { return wanted.load() != 0; },
                                        .thread_fn =
                                            [&](int) {
                                              wanted.store(0);
                                              ++plain;
                                            }},
                          .cpus = {3}});
    wanted.store(1);
    threads->wake(3);
    EXPECT_TRUE(eventually([&] { return wanted.load() == 0; }));
    EXPECT_TRUE(threads->cpu_offline(3).has_value());
    EXPECT_EQ(plain, 1);
    EXPECT_EQ(threads->cpus(), std::vector<int>{3});
  });
}

TEST(PerCpuThread, AThreadFnThatStaysTooLongIsATimeoutAndParksInTheEnd) {
  platform::Atomic<int> stage{0};
  const auto body = [&stage] {
    stage.store(0);
    auto threads = start({.callbacks = {.thread_should_run = [&](int) { return stage.load() == 1; },
                                        .thread_fn =
                                            [&](int) {
                                              stage.store(2);
                                              while (stage.load() == 2) platform::this_thread::yield();
                                            }},
                          .cpus = {0}});
    stage.store(1);
    threads->wake(0);
    EXPECT_TRUE(eventually([&] { return stage.load() == 2; }));
    EXPECT_FALSE(threads->should_leave(0));
    const Result<void> parked = threads->cpu_offline(0, Deadline::after(1ms));
    ASSERT_FALSE(parked.has_value());
    EXPECT_EQ(parked.error().code, Errc::kTimeout);
    EXPECT_TRUE(threads->should_leave(0));
    EXPECT_FALSE(threads->is_parked(0));
    stage.store(3);
    EXPECT_TRUE(eventually([&] { return threads->is_parked(0); }));
  };
  under_many_schedules(body, 5);
}

TEST(PerCpuThread, MisuseIsAnErrorAndNoDeadlock) {
  const auto nothing = [](int) {};
  const auto never = [](int) { return false; };
  under_many_schedules(
      [&] {
        const Topology& topology = small_topology();
        EXPECT_EQ(PerCpuThread::create(topology, {}).error().code, Errc::kInvalid);
        EXPECT_EQ(PerCpuThread::create(topology, {.callbacks = {.thread_should_run = never}}).error().code,
                  Errc::kInvalid);
        const PerCpuThread::Callbacks callbacks{.thread_should_run = never, .thread_fn = nothing};
        for (const char* name : {"plain", "two%u%u", "%d", "%", "100%%u"}) {
          EXPECT_EQ(PerCpuThread::create(topology, {.name = name, .callbacks = callbacks}).error().code, Errc::kInvalid)
              << name;
        }
        EXPECT_EQ(PerCpuThread::create(topology, {.callbacks = callbacks, .cpus = {0, 9}}).error().code,
                  Errc::kInvalid);

        Errc inside = Errc::kSystem;
        PerCpuThread* self = nullptr;
        platform::Atomic<int> wanted{0};
        auto threads = start({.callbacks = {.thread_should_run = [&](int) { return wanted.load() != 0; },
                                            .thread_fn =
                                                [&](int cpu) {
                                                  inside = self->cpu_offline(cpu).error().code;
                                                  wanted.store(0);
                                                }},
                              .cpus = {1}});
        self = threads.get();
        wanted.store(1);
        threads->wake(1);
        EXPECT_TRUE(eventually([&] { return wanted.load() == 0; }));
        EXPECT_EQ(inside, Errc::kState);
        EXPECT_EQ(threads->cpu_offline(0).error().code, Errc::kInvalid);
        EXPECT_EQ(threads->cpu_online(-1).error().code, Errc::kInvalid);
        threads->wake(17);
        EXPECT_FALSE(threads->is_parked(17));
        EXPECT_EQ(threads->thread_id(17), 0);
      },
      5);
}

#if defined(UPCI_SIM)

TEST(PerCpuThread, Rule30AThreadComesBackToItsCpuWithIt) {
  for_each_seed(500, [] {
    Recorder recorder(small_topology());
    recorder.park_on_own_cpu = false;  // it has gone by then
    auto threads = start(recorder.options());
    const int os_cpu = small_topology().find(1)->os_cpu;
    recorder.want(*threads, 1);
    EXPECT_TRUE(eventually([&] { return recorder.log(1) == "CSR"; }));  // before its CPU is taken from under it
    platform::sim::set_online(os_cpu, false);
    EXPECT_TRUE(threads->cpu_offline(1).has_value());
    EXPECT_EQ(threads->cpu_online(1).error().code, Errc::kUnavailable);
    platform::sim::set_online(os_cpu, true);
    EXPECT_TRUE(threads->cpu_online(1).has_value());
    recorder.want(*threads, 1);
    EXPECT_TRUE(eventually([&] { return recorder.caught_up(1); }));  // the recorder checks the CPU
    threads.reset();
    recorder.expect_in_order(1);
  });
}

TEST(PerCpuThread, Rule30ACpuThatWasOfflineAtFirstGetsItsThreadWhenItComes) {
  for_each_seed(300, [] {
    Recorder recorder(small_topology());
    const int os_cpu = small_topology().find(2)->os_cpu;
    platform::sim::set_online(os_cpu, false);
    auto threads = start(recorder.options());
    EXPECT_EQ(threads->thread_id(2), 0);
    EXPECT_EQ(recorder.log(2), "");
    recorder.want(*threads, 2);
    platform::sim::set_online(os_cpu, true);
    EXPECT_TRUE(threads->cpu_online(2).has_value());
    EXPECT_TRUE(eventually([&] { return recorder.caught_up(2); }));
    threads.reset();
    recorder.expect_in_order(2);
  });
}

TEST(PerCpuThread, Rule30IfOneThreadCannotBeStartedNoneIs) {
  for_each_seed(300, [] {
    Recorder recorder(small_topology());
    auto options = recorder.options();
    int created = 0;
    options.callbacks.create = [&created](int) {
      if (++created == 2) platform::sim::fail_threads(1);
    };
    const auto threads = PerCpuThread::create(small_topology(), std::move(options));
    ASSERT_FALSE(threads.has_value());
    EXPECT_EQ(threads.error().sys_errno, EAGAIN);
    for (int cpu = 0; cpu < 2; ++cpu) {
      const std::string log = recorder.log(cpu);
      EXPECT_TRUE(log.empty() || log == "SK") << log;
    }
    EXPECT_EQ(recorder.log(2), "");
  });
}

TEST(PerCpuThread, Rule30InEveryScheduleOfASmallScenario) {
  // One CPU: a wake-up against the way to sleep, and a parking against both.
  const Exploration all = for_each_schedule(
      [] {
        int runs = 0;
        std::string log;
        platform::Atomic<int> wanted{0};
        auto threads = start({.callbacks = {.thread_should_run = [&](int) { return wanted.load() != 0; },
                                            .thread_fn =
                                                [&](int) {
                                                  wanted.store(0);
                                                  ++runs;
                                                  log += 'R';
                                                },
                                            .setup = [&](int) { log += 'S'; },
                                            .park = [&](int) { log += 'P'; },
                                            .unpark = [&](int) { log += 'U'; },
                                            .cleanup = [&](int, bool) { log += 'K'; }},
                              .cpus = {0}});
        wanted.store(1);
        threads->wake(0);
        EXPECT_TRUE(threads->cpu_offline(0).has_value());
        const std::string parked = log;
        EXPECT_TRUE(threads->cpu_online(0).has_value());
        while (wanted.load() != 0) platform::this_thread::yield();
        threads.reset();
        EXPECT_EQ(runs, 1);
        EXPECT_TRUE(parked.empty() || parked == "SP" || parked == "SRP") << parked;
        EXPECT_TRUE(log == "SRK" || log == "SPURK" || log == "SRPUK" || log == "SRPK") << log;
      },
      {.preemptions = 2});
  EXPECT_TRUE(all.complete);
  EXPECT_GT(all.schedules, 100U);
}

TEST(PerCpuThread, Rule30AnOldParkingIsNeverTakenForANewOne) {
  // Parked, woken for nothing, unparked and parked again while it still looks around: the second parking is over only when
  // nothing runs any more.
  const Exploration all = for_each_schedule(
      [] {
        std::string log;
        auto threads = start({.callbacks = {.thread_should_run = [](int) { return false; },
                                            .thread_fn = [](int) {},
                                            .park = [&](int) { log += 'P'; },
                                            .unpark = [&](int) { log += 'U'; }},
                              .cpus = {0}});
        while (threads->is_parked(0)) platform::this_thread::yield();
        EXPECT_TRUE(threads->cpu_offline(0).has_value());
        threads->wake(0);
        EXPECT_TRUE(threads->cpu_online(0).has_value());
        EXPECT_TRUE(threads->cpu_offline(0).has_value());
        const std::string parked = log;
        for (int i = 0; i < 3; ++i) platform::this_thread::yield();
        EXPECT_EQ(log, parked);
      },
      {.preemptions = 3, .max_schedules = 1'000'000});
  EXPECT_TRUE(all.complete) << all.schedules;
}

#endif

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
