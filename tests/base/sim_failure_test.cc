// SPDX-License-Identifier: Apache-2.0
// How a simulated run reports that it cannot go on.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "base/wait.h"
#include "tests/sim.h"

namespace upci {
namespace {

using platform::Thread;
namespace sim = platform::sim;
using sim::End;

Thread start(std::string name, std::function<void()> body) {
  return Thread::create({.name = std::move(name)}, std::move(body)).value();
}

void expect_in(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in:\n" << text;
}

TEST(SimFailure, ADeadlockNamesEveryFiberAndWhatItWaitsFor) {
  static platform::Mutex a;
  static platform::Mutex b;
  static platform::Atomic<int> held{0};
  const auto both = [](platform::Mutex& first, platform::Mutex& second) {
    first.lock();
    held.fetch_add(1);
    while (held.load() < 2) platform::relax();
    second.lock();
  };
  const sim::Outcome outcome = sim::run({.seed = 7}, [&] {
    Thread one = start("takes a, b", [&] { both(a, b); });
    Thread two = start("takes b, a", [&] { both(b, a); });
    one.join();
  });
  EXPECT_EQ(outcome.end, End::kDeadlock);
  expect_in(outcome.text, "seed 7");
  expect_in(outcome.text, "fiber 1 'main' waits for the end of fiber 2 'takes a, b'");
  expect_in(outcome.text, "fiber 2 'takes a, b' waits for the mutex");
  expect_in(outcome.text, "fiber 3 'takes b, a' waits for the mutex");
}

TEST(SimFailure, SomeSeedFindsADeadlockThatNeedsAnUnluckySwitch) {
  int deadlocks = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    // On the heap and never freed: after a deadlock the fibers keep what they have.
    static std::vector<std::unique_ptr<std::array<platform::Mutex, 2>>> kept;
    auto& locks = *kept.emplace_back(new std::array<platform::Mutex, 2>);
    const sim::Outcome outcome = sim::run({.seed = seed}, [&locks] {
      const auto nest = [&locks](std::size_t first) {
        locks[first].lock();
        locks[1 - first].lock();
        locks[1 - first].unlock();
        locks[first].unlock();
      };
      Thread one = start("one", [&] { nest(0); });
      Thread two = start("two", [&] { nest(1); });
      one.join();
      two.join();
    });
    if (outcome.end == End::kDeadlock) ++deadlocks;
  }
  EXPECT_GT(deadlocks, 5);
  EXPECT_LT(deadlocks, 295);
}

TEST(SimFailure, ALostWakeUpIsADeadlock) {
  const sim::Outcome outcome = sim::run({.spurious = false}, [] {
    static platform::Atomic<std::uint32_t> word{0};
    platform::wait_word(word, 0);
  });
  EXPECT_EQ(outcome.end, End::kDeadlock);
  expect_in(outcome.text, "fiber 1 'main' waits for the word at 0x");
}

TEST(SimFailure, TheReportHasTheStackOfEachFiberOnRequest) {
  const sim::Outcome outcome = sim::run({.stacks = true, .spurious = false}, [] {
    static Completion never;
    Thread other = start("stuck", [] { never.wait(); });
    other.join();
  });
  EXPECT_EQ(outcome.end, End::kDeadlock);
  const std::size_t main = outcome.text.find("fiber 1 'main' is in");
  const std::size_t stuck = outcome.text.find("fiber 2 'stuck' is in");
  const std::size_t wait = outcome.text.find("Completion::wait");
  ASSERT_NE(wait, std::string::npos) << outcome.text;
  EXPECT_LT(main, stuck);
  EXPECT_LT(stuck, wait);
  expect_in(outcome.text, "sim_failure_test.cc:");
}

TEST(SimFailure, AnEndlessLoopIsALivelock) {
  const sim::Outcome outcome = sim::run({.max_steps = 10'000}, [] {
    Thread one = start("spins", [] {
      for (;;) platform::relax();
    });
    one.join();
  });
  EXPECT_EQ(outcome.end, End::kStepLimit);
  EXPECT_GE(outcome.steps, 10'000u);
  expect_in(outcome.text, "not finished after 10000 steps");
  expect_in(outcome.text, "'spins' runs");
}

TEST(SimFailure, ALoopWithoutAWordToTheOthersIsALivelockToo) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    static platform::Atomic<int> never{0};
    EXPECT_EQ(sim::run({.seed = seed, .max_steps = 10'000},
                       [] {
                         while (never.load() == 0) {}
                       })
                  .end,
              End::kStepLimit);
  }
}

TEST(SimFailure, AnExceptionThatLeavesAFiberIsReported) {
  const sim::Outcome outcome = sim::run({}, [] {
    Thread one = start("thrower", [] { throw std::runtime_error("the reason"); });
    one.join();
  });
  EXPECT_EQ(outcome.end, End::kException);
  expect_in(outcome.text, "an exception left the body of fiber 'thrower': the reason");
  EXPECT_EQ(std::uncaught_exceptions(), 0) << "it stays behind with its fiber";
}

TEST(SimFailure, MisuseOfAMutexIsReported) {
  static platform::Mutex mutex;
  EXPECT_EQ(sim::run({}, [] { mutex.unlock(); }).end, End::kFailed);
  const sim::Outcome twice = sim::run({}, [] {
    static platform::Mutex local;
    local.lock();
    local.lock();
  });
  EXPECT_EQ(twice.end, End::kFailed);
  expect_in(twice.text, "fiber 1 locks a mutex that fiber 1 holds");
  const sim::Outcome foreign = sim::run({}, [] {
    static platform::Mutex local;
    start("holder", [] { local.lock(); }).join();
    local.unlock();
  });
  expect_in(foreign.text, "fiber 1 unlocks a mutex that fiber 2 holds");
  const sim::Outcome destroyed = sim::run({}, [] {
    platform::Mutex local;
    local.lock();
  });
  expect_in(destroyed.text, "destroyed");
}

TEST(SimFailure, AThreadMustBeJoinedOrDetached) {
  const sim::Outcome outcome = sim::run({}, [] { Thread thread = start("lost", [] {}); });
  EXPECT_EQ(outcome.end, End::kFailed);
  expect_in(outcome.text, "neither joined nor detached");
}

TEST(SimFailure, ATestCanEndTheRun) {
  const sim::Outcome outcome = sim::run({}, [] { sim::fail_run("enough"); });
  EXPECT_EQ(outcome.end, End::kFailed);
  EXPECT_EQ(outcome.text.find("enough"), 0u);
}

TEST(SimFailure, AFailedRunDoesNotDisturbTheNextOnes) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(sim::run({.spurious = false},
                       [] {
                         static platform::Atomic<std::uint32_t> word{0};
                         Thread other = start("stuck", [] { platform::wait_word(word, 0); });
                         other.join();
                       })
                  .end,
              End::kDeadlock);
    EXPECT_TRUE(sim::run({}, [] { sleep_for(std::chrono::seconds(1)); }).ok());
  }
  EXPECT_FALSE(sim::running());
}

TEST(SimFailure, ARunInsideARunIsRefused) {
  ASSERT_TRUE(sim::run({}, [] { EXPECT_EQ(sim::run({}, [] {}).end, End::kFailed); }).ok());
}

TEST(SimFailure, NoThreadsOutsideOfARun) {
  EXPECT_EQ(Thread::create({.name = "early"}, [] {}).error().code, Errc::kState);
}

}  // namespace
}  // namespace upci
