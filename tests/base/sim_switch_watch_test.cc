// SPDX-License-Identifier: Apache-2.0
// SwitchWatch and ThreadProbe in simulation.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <optional>

#include "tests/sim.h"

namespace upci {
namespace {

using platform::Atomic;
using platform::Clock;
using platform::Event;
using platform::EventQueue;
using platform::SwitchWatch;
using platform::Thread;
using platform::ThreadProbe;
using State = platform::SwitchWatch::State;
using std::chrono::milliseconds;
using std::chrono::seconds;
namespace sim = platform::sim;

/// A watched fiber that runs `body(watch)`, and the caller's look at it.
template <class Body, class Look>
void with_worker(Body body, Look look) {
  EventQueue queue = EventQueue::create().value();
  std::optional<SwitchWatch> watch;
  Atomic<std::uint32_t> ready{0};
  Atomic<std::uint32_t> over{0};
  Thread thread = Thread::create({.name = "worker"}, [&] {
                    watch.emplace(SwitchWatch::create().value());
                    EXPECT_TRUE(queue.add(*watch, 7).has_value());
                    ready.store(1);
                    platform::wake_word(&ready, 1);
                    body(*watch);
                    watch->disarm();
                    while (over.load() == 0) platform::wait_word(over, 0);
                  }).value();
  while (ready.load() == 0) platform::wait_word(ready, 0);
  const ThreadProbe probe = ThreadProbe::open(thread.id()).value();
  look(queue, *watch, probe);
  over.store(1);
  platform::wake_word(&over, 1);
  thread.join();
  EXPECT_TRUE(queue.remove(*watch).has_value());
}

/// Takes events until the fiber is reported as blocked; a sleep that is never reported is a deadlock.
void wait_blocked(EventQueue& queue, SwitchWatch& watch, const ThreadProbe& probe) {
  std::array<Event, 2> events;
  do {
    if (watch.lapsed()) {  // found preempted: nothing is reported until it is looked at again
      platform::this_thread::sleep_until(Clock::now() + milliseconds(1));
      continue;
    }
    EXPECT_EQ(queue.wait(events).events, 1U);
    EXPECT_EQ(events[0].token, 7U);
  } while (watch.rearm(probe) != State::kBlocked);
}

TEST(SimSwitchWatch, EachKindOfWaitIsASleepAndIsReported) {
  for (int kind = 0; kind < 4; ++kind) {
    test::for_each_seed(300, [kind] {
      Atomic<std::uint32_t> word{0};
      platform::Mutex mutex;
      EventQueue other = EventQueue::create().value();
      if (kind == 2) mutex.lock();
      with_worker(
          [&](SwitchWatch& watch) {
            watch.arm();
            std::array<Event, 1> events;
            switch (kind) {
              case 0:
                while (word.load() == 0) platform::wait_word(word, 0);
                break;
              case 1: platform::this_thread::sleep_until(Clock::now() + seconds(1)); break;
              case 2: {
                const std::lock_guard held(mutex);
                break;
              }
              default: EXPECT_TRUE(other.wait(events).notified);
            }
            EXPECT_NE(watch.state(), State::kBlocked) << "it runs";
          },
          [&](EventQueue& queue, SwitchWatch& watch, const ThreadProbe& probe) {
            wait_blocked(queue, watch, probe);
            EXPECT_FALSE(probe.where().empty());
            if (kind == 0) {
              word.store(1);
              platform::wake_word(&word, 1);
            }
            if (kind == 2) mutex.unlock();
            if (kind == 3) other.notify();
          });
    });
  }
}

TEST(SimSwitchWatch, YieldingComputingAndOtherPointsAreNoSleeps) {
  test::for_each_seed(500, [] {
    Atomic<int> stage{0};
    with_worker(
        [&](SwitchWatch& watch) {
          for (int i = 0; i < 20; ++i) {
            watch.arm();
            platform::this_thread::yield();
            sim::consume(milliseconds(1));
            EXPECT_NE(watch.state(), State::kBlocked);
          }
          watch.disarm();
          stage.store(1);
        },
        [&](EventQueue&, SwitchWatch& watch, const ThreadProbe& probe) {
          while (stage.load() == 0) {
            const State state = watch.rearm(probe);
            if (stage.load() == 0) { EXPECT_NE(state, State::kBlocked); }
            platform::this_thread::sleep_until(Clock::now() + milliseconds(3));
          }
        });
  });
}

TEST(SimSwitchWatch, RearmingReportsEverySleepOfOneArming) {
  test::for_each_seed(500, [] {
    Atomic<std::uint32_t> word{0};
    with_worker(
        [&](SwitchWatch& watch) {
          watch.arm();
          for (std::uint32_t i = 0; i < 6; ++i) {
            while (word.load() == i) platform::wait_word(word, i);
          }
        },
        [&](EventQueue& queue, SwitchWatch& watch, const ThreadProbe& probe) {
          for (std::uint32_t i = 0; i < 6; ++i) {
            // A look first: an event that told of this sleep may have been taken for the one before.
            if (watch.rearm(probe) != State::kBlocked) wait_blocked(queue, watch, probe);
            word.store(i + 1);
            platform::wake_word(&word, 1);
          }
        });
  });
}

TEST(SimSwitchWatch, WhatWasFoundPreemptedIsNotReportedUntilItIsLookedAtAgain) {
  int lapses = 0;
  test::for_each_seed(300, [&lapses] {
    Atomic<int> stage{0};
    with_worker(
        [&](SwitchWatch& watch) {
          watch.arm();
          for (int i = 0; i < 40; ++i) {
            platform::this_thread::yield();
            sim::consume(milliseconds(1));
          }
          stage.store(1);
        },
        [&](EventQueue& queue, SwitchWatch& watch, const ThreadProbe& probe) {
          std::array<Event, 2> events;
          while (stage.load() == 0) {
            (void)queue.wait(events, Clock::now() + milliseconds(2));
            (void)watch.rearm(probe);
            if (!watch.lapsed()) continue;
            lapses++;
            (void)queue.wait(events, Clock::now());  // what was reported before
            EXPECT_TRUE(queue.wait(events, Clock::now() + milliseconds(5)).timed_out);
            EXPECT_TRUE(watch.lapsed() || stage.load() == 1);
          }
        });
  });
  EXPECT_GT(lapses, 0);
}

TEST(SimSwitchWatch, PreemptionsAreReportedInSomeSeeds) {
  int preempted = 0;
  test::for_each_seed(200, [&preempted] {
    Atomic<int> stage{0};
    with_worker(
        [&](SwitchWatch& watch) {
          for (int i = 0; i < 20; ++i) {
            watch.arm();
            platform::this_thread::yield();
          }
          watch.disarm();
          stage.store(1);
        },
        [&](EventQueue&, SwitchWatch& watch, const ThreadProbe&) {
          while (stage.load() == 0) {
            preempted += watch.state() == State::kPreempted ? 1 : 0;
            platform::this_thread::yield();
          }
        });
  });
  EXPECT_GT(preempted, 0);
}

TEST(SimSwitchWatch, CanBeRefused) {
  test::run_seed(1, [] {
    EXPECT_TRUE(SwitchWatch::self_test().has_value());
    sim::refuse_switch_watch(true);
    EXPECT_EQ(SwitchWatch::create().error().sys_errno, EACCES);
    EXPECT_EQ(SwitchWatch::self_test().error().sys_errno, EACCES);
    sim::refuse_switch_watch(false);
    auto watch = SwitchWatch::create();
    ASSERT_TRUE(watch.has_value());
    EXPECT_EQ(SwitchWatch::create().error().code, Errc::kState) << "one for each fiber";
  });
}

TEST(SimThreadProbe, ComputingTakesTimeAndCpuTimeAndIsNoSleep) {
  test::for_each_seed(300, [] {
    Atomic<int> stage{0};
    const auto start = Clock::now();
    Thread worker = Thread::create({.name = "worker"}, [&] {
                      sim::consume(milliseconds(10));
                      EXPECT_EQ(Clock::now(), start + milliseconds(10));
                      platform::this_thread::sleep_until(start + milliseconds(100));
                      stage.store(1);
                    }).value();
    const ThreadProbe probe = ThreadProbe::open(worker.id()).value();
    platform::this_thread::sleep_until(start + milliseconds(4));
    EXPECT_FALSE(probe.asleep());
    EXPECT_EQ(probe.cpu_time(), milliseconds(4)) << "timers go off while it computes";
    platform::this_thread::sleep_until(start + milliseconds(50));
    EXPECT_TRUE(probe.asleep());
    EXPECT_EQ(probe.cpu_time(), milliseconds(10));
    EXPECT_EQ(stage.load(), 0);
    worker.join();
    EXPECT_FALSE(probe.asleep());
    EXPECT_EQ(ThreadProbe::open(99).error().sys_errno, ENOENT);
  });
}

TEST(SimThreadProbe, FibersComputeSideBySide) {
  test::for_each_seed(300, [] {
    const auto start = Clock::now();
    Thread other = Thread::create({.name = "other"}, [] { sim::consume(milliseconds(10)); }).value();
    sim::consume(milliseconds(10));
    other.join();
    EXPECT_EQ(Clock::now() - start, milliseconds(10));
  });
}

}  // namespace
}  // namespace upci
