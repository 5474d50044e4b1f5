// SPDX-License-Identifier: Apache-2.0
// The simulated clock.
#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "base/wait.h"
#include "tests/sim.h"

namespace upci {
namespace {

using platform::Clock;
using platform::Thread;
using std::chrono::microseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
namespace sim = platform::sim;

TEST(SimTime, ALongTimeoutIsExactAndTakesNoTime) {
  const auto real_start = std::chrono::steady_clock::now();
  test::for_each_seed(1000, [] {
    const auto start = Clock::now();
    Completion never;
    EXPECT_FALSE(never.wait(Deadline::after(seconds(180))));
    EXPECT_EQ(Clock::now() - start, seconds(180));
    sleep_for(nanoseconds(1));
    EXPECT_EQ(Clock::now() - start, seconds(180) + nanoseconds(1));
  });
  EXPECT_LT(std::chrono::steady_clock::now() - real_start, seconds(60));
}

TEST(SimTime, StandsStillWhileAFiberCanRun) {
  test::for_each_seed(100, [] {
    const auto start = Clock::now();
    platform::Atomic<int> sum{0};
    Thread sleeper = Thread::create({}, [] { sleep_for(microseconds(1)); }).value();
    Thread worker = Thread::create({}, [&] {
                      for (int i = 0; i < 100; ++i) sum.fetch_add(1);
                      EXPECT_EQ(Clock::now(), start);
                    }).value();
    worker.join();
    sleeper.join();
    EXPECT_EQ(Clock::now() - start, microseconds(1));
  });
}

TEST(SimTime, SleepersWakeInTheOrderOfTheirTimes) {
  test::for_each_seed(200, [] {
    const auto start = Clock::now();
    std::vector<int> order;
    std::vector<Thread> threads;
    for (const int at : {30, 10, 20, 40}) {
      threads.push_back(Thread::create({}, [&order, at, start] {
                          platform::this_thread::sleep_until(start + seconds(at));
                          EXPECT_EQ(Clock::now(), start + seconds(at));
                          order.push_back(at);
                        }).value());
    }
    for (Thread& thread : threads) thread.join();
    EXPECT_EQ(order, (std::vector<int>{10, 20, 30, 40}));
  });
}

TEST(SimTime, ABoundedSpinLoopEnds) {
  test::for_each_seed(100, [] {
    const Deadline deadline = Deadline::after(microseconds(50));
    Thread other = Thread::create({}, [&] {
                     while (!deadline.expired()) platform::this_thread::yield();
                   }).value();
    while (!deadline.expired()) platform::relax();
    EXPECT_LE(Clock::now() - deadline.when(), microseconds(2));
    other.join();
  });
}

TEST(SimTime, ASpinLoopSeesATimerOfAnotherFiberGoOff) {
  test::for_each_seed(100, [] {
    platform::Atomic<bool> flag{false};
    Thread other = Thread::create({}, [&] {
                     sleep_for(microseconds(100));
                     flag.store(true);
                   }).value();
    while (!flag.load()) platform::relax();
    other.join();
  });
}

TEST(SimTime, ATimedMutexOrWordWaitCanEndAtTheInstantOfItsWakeUp) {
  int in_time = 0;
  int too_late = 0;
  test::for_each_seed(300, [&] {
    const Deadline deadline = Deadline::after(seconds(1));
    Completion done;
    Thread other = Thread::create({}, [&] {
                     platform::this_thread::sleep_until(deadline.when());
                     done.complete();
                   }).value();
    done.wait(deadline) ? ++in_time : ++too_late;
    other.join();
  });
  EXPECT_GT(in_time, 0);
  EXPECT_GT(too_late, 0) << "both orders of what happens at one instant are tried";
}

}  // namespace
}  // namespace upci
