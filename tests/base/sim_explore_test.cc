// SPDX-License-Identifier: Apache-2.0
// Going through all schedules of a small scenario, and faults on demand.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "tests/explore.h"
#include "tests/sim.h"

namespace upci {
namespace {

using platform::Atomic;
using platform::Clock;
using platform::Event;
using platform::EventQueue;
using platform::Thread;
using std::chrono::milliseconds;
using std::chrono::seconds;
namespace sim = platform::sim;

Thread start(std::function<void()> body) { return Thread::create({.name = "other"}, std::move(body)).value(); }

/// A stack without a version count. One pop reads the top and its next, is stopped, and meanwhile another takes both and
/// puts the first back: the first pop's exchange then brings back what is gone. Needs two preemptions: in the middle of the
/// pop, and, for the second thread, to come back before the test's end would hide it.
struct NaiveStack {
  struct Node {
    Atomic<Node*> next{nullptr};
    bool taken = false;
  };
  void push(Node& node) {
    Node* top = top_.load();
    do { node.next.store(top); } while (!top_.compare_exchange_strong(top, &node));
  }
  Node* pop() {
    Node* top = top_.load();
    while (top != nullptr && !top_.compare_exchange_strong(top, top->next.load())) {}
    return top;
  }
  Atomic<Node*> top_{nullptr};
};

/// True when the ABA showed: a node was popped twice.
bool aba_scenario() {
  NaiveStack stack;
  NaiveStack::Node first;
  NaiveStack::Node second;
  stack.push(second);
  stack.push(first);
  bool twice = false;
  const auto take = [&twice](NaiveStack::Node* node) {
    if (node == nullptr) return;
    twice |= node->taken;
    node->taken = true;
  };
  Thread other = start([&] {
    NaiveStack::Node* const a = stack.pop();
    take(a);
    take(stack.pop());
    if (a == nullptr) return;
    a->taken = false;
    stack.push(*a);
  });
  take(stack.pop());
  take(stack.pop());
  other.join();
  return twice;
}

test::Exploration explore_aba(unsigned preemptions) {
  bool wrong = false;
  return test::explore([&wrong] { wrong = aba_scenario(); }, [&wrong] { return wrong; }, {.preemptions = preemptions});
}

TEST(SimExplore, FindsThePlantedBugThatSeedsFindToo) {
  bool by_seed = false;
  for (std::uint64_t seed = 1; seed <= 20'000 && !by_seed; ++seed) {
    sim::run({.seed = seed}, [&by_seed] { by_seed |= aba_scenario(); });
  }
  EXPECT_TRUE(by_seed);
  const test::Exploration all = explore_aba(2);
  EXPECT_TRUE(all.failed);
  EXPECT_FALSE(all.complete);
  EXPECT_EQ(all.schedule.substr(0, 2), "2:");
}

TEST(SimExplore, TheScheduleThatItPrintsFailsAgain) {
  const test::Exploration all = explore_aba(2);
  ASSERT_TRUE(all.failed);
  bool wrong = false;
  const test::Exploration again = test::replay_schedule(all.schedule, [&wrong] { wrong = aba_scenario(); });
  EXPECT_TRUE(wrong);
  EXPECT_EQ(again.schedules, 1U);
}

TEST(SimExplore, WithoutPreemptionsTheBugIsNotThere) {
  const test::Exploration none = explore_aba(0);
  EXPECT_FALSE(none.failed);
  EXPECT_TRUE(none.complete);
  EXPECT_TRUE(none.bounded) << "it says that the bound kept schedules out";
}

TEST(SimExplore, GoesThroughEveryOrderOnce) {
  // Two threads with one step each between their marks: every interleaving of the marks, and the same number each time.
  std::set<std::string> orders;
  const auto body = [&orders] {
    std::string order;
    Atomic<int> word{0};
    Thread other = start([&] {
      order += 'a';
      word.fetch_add(1);
      order += 'b';
    });
    order += 'x';
    word.fetch_add(1);
    order += 'y';
    other.join();
    orders.insert(order);
  };
  const test::Exploration first = test::for_each_schedule(body, {.preemptions = 8});
  EXPECT_TRUE(first.complete);
  EXPECT_FALSE(first.bounded);
  EXPECT_EQ(orders, (std::set<std::string>{"abxy", "axby", "axyb", "xaby", "xayb", "xyab"}));
  const test::Exploration second = test::for_each_schedule(body, {.preemptions = 8});
  EXPECT_EQ(first.schedules, second.schedules);
  const test::Exploration fewer = test::for_each_schedule(body, {.preemptions = 1});
  EXPECT_LT(fewer.schedules, first.schedules);
  EXPECT_TRUE(fewer.bounded);
}

TEST(SimExplore, ChoicesOfTheTestAndOfTheWakeUpsAreGoneThroughToo) {
  std::set<std::uint64_t> choices;
  std::set<int> woken_first;
  const test::Exploration all = test::for_each_schedule(
      [&] {
        choices.insert(sim::random(3));
        Atomic<std::uint32_t> word{0};
        int first = 0;
        std::vector<Thread> sleepers;
        for (int i = 1; i <= 2; ++i) {
          sleepers.push_back(start([&word, &first, i] {
            while (word.load() == 0) platform::wait_word(word, 0);
            if (first == 0) first = i;
          }));
        }
        word.store(1);
        platform::wake_word(&word, 2);
        for (Thread& sleeper : sleepers) sleeper.join();
        woken_first.insert(first);
      },
      {.preemptions = 1});
  EXPECT_TRUE(all.complete);
  EXPECT_EQ(choices, (std::set<std::uint64_t>{0, 1, 2}));
  EXPECT_EQ(woken_first, (std::set<int>{1, 2}));
}

TEST(SimExplore, ADeadlockIsFoundAndReplays) {
  const auto body = [] {
    platform::Mutex one;
    platform::Mutex two;
    Thread other = start([&] {
      one.lock();
      two.lock();
      two.unlock();
      one.unlock();
    });
    two.lock();
    one.lock();
    one.unlock();
    two.unlock();
    other.join();
  };
  const test::Exploration all = test::explore(body, [] { return false; }, {.preemptions = 1});
  ASSERT_TRUE(all.failed);
  const std::string schedule = all.schedule;
  test::Schedule replay;
  ASSERT_TRUE(replay.parse(std::string_view(schedule).substr(2)));
  const sim::Outcome outcome = sim::run({.chooser = &replay, .preemptions = 1}, body);
  EXPECT_EQ(outcome.end, sim::End::kDeadlock) << outcome.text;
}

TEST(SimExplore, AScheduleOfAnotherScenarioIsRefused) {
  test::Schedule schedule;
  ASSERT_TRUE(schedule.parse("0,7"));
  const sim::Outcome outcome = sim::run({.chooser = &schedule}, [] {
    Thread other = start([] {});
    other.join();
  });
  EXPECT_EQ(outcome.end, sim::End::kFailed);
  EXPECT_NE(outcome.text.find("alternative 7"), std::string::npos) << outcome.text;
  EXPECT_FALSE(schedule.parse("0*"));
  EXPECT_FALSE(schedule.parse("x"));
  EXPECT_FALSE(schedule.parse("1;2"));
}

TEST(SimExplore, StopsAtItsLimitAndSaysSo) {
  const test::Exploration some =
      test::for_each_schedule([] { aba_scenario(); }, {.preemptions = 1, .max_schedules = 10});
  EXPECT_EQ(some.schedules, 10U);
  EXPECT_FALSE(some.complete);
}

TEST(SimExplore, SpinLoopsEnd) {
  const test::Exploration all = test::for_each_schedule([] {
    Atomic<int> flag{0};
    Thread other = start([&flag] {
      while (flag.load() == 0) platform::relax();
      const auto until = Clock::now() + std::chrono::microseconds(50);
      while (Clock::now() < until) platform::relax();
    });
    flag.store(1);
    other.join();
  });
  EXPECT_TRUE(all.complete);
}

// Faults on demand

TEST(SimFaults, TheNextThreadsFail) {
  test::for_each_seed(20, [] {
    sim::fail_threads(2);
    for (int i = 0; i < 2; ++i) {
      auto thread = Thread::create({.name = "no"}, [] {});
      ASSERT_FALSE(thread.has_value());
      EXPECT_EQ(thread.error().sys_errno, EAGAIN);
    }
    start([] {}).join();
  });
}

TEST(SimFaults, ALostWakeUpIsLost) {
  test::for_each_seed(200,
                      [] {
                        EventQueue queue = EventQueue::create().value();
                        std::array<Event, 1> events;
                        sim::lose_wakeups(1);
                        queue.notify();
                        const auto start_time = Clock::now();
                        EXPECT_TRUE(queue.wait(events, start_time + seconds(1)).timed_out);
                        queue.notify();
                        EXPECT_TRUE(queue.wait(events, start_time + seconds(9)).notified);

                        Atomic<std::uint32_t> word{0};
                        bool in_time = true;
                        Thread sleeper = start([&] {
                          const auto until = Clock::now() + seconds(1);
                          while (word.load() == 0 && in_time) in_time = platform::wait_word(word, 0, until);
                        });
                        platform::this_thread::sleep_until(Clock::now() + milliseconds(1));
                        sim::lose_wakeups(1);
                        word.store(1);
                        platform::wake_word(&word, 1);
                        sleeper.join();
                        EXPECT_FALSE(in_time) << "it slept until its time";
                      },
                      {.spurious = false});
}

TEST(SimFaults, ALateTimerIsLateByJustThat) {
  test::for_each_seed(50, [] {
    EventQueue queue = EventQueue::create().value();
    std::array<Event, 1> events;
    const auto start_time = Clock::now();
    sim::delay_alarms(milliseconds(7));
    queue.set_alarm(start_time + milliseconds(10));
    EXPECT_TRUE(queue.wait(events).alarm);
    EXPECT_EQ(Clock::now(), start_time + milliseconds(17));
    queue.set_alarm(platform::kNever);
    EXPECT_TRUE(queue.wait(events, Clock::now() + seconds(1)).timed_out);
    sim::delay_alarms({});
    queue.set_alarm(Clock::now() + milliseconds(1));
    const auto now = Clock::now();
    EXPECT_TRUE(queue.wait(events).alarm);
    EXPECT_EQ(Clock::now(), now + milliseconds(1));
  });
}

}  // namespace
}  // namespace upci
