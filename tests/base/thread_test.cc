// SPDX-License-Identifier: Apache-2.0
// Threads, CPUs and words on the real operating system.
#include <gtest/gtest.h>
#include <pthread.h>

#include <chrono>
#include <set>
#include <string>

#include "base/platform.h"

namespace upci {
namespace {

using platform::Clock;
using platform::Thread;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Thread, HasItsNameItsCpuAndItsIdBeforeTheBodyRuns) {
  const int cpu = platform::online_cpus().back();
  platform::ThreadId inside = 0;
  std::string name;
  int where = -1;
  Thread thread = Thread::create({.name = "a-name-of-more-than-15", .cpu = cpu}, [&] {
                    inside = platform::this_thread::id();
                    where = platform::this_thread::current_cpu();
                    char text[16];
                    ::pthread_getname_np(::pthread_self(), text, sizeof(text));
                    name = text;
                  }).value();
  const platform::ThreadId outside = thread.id();
  thread.join();
  EXPECT_FALSE(thread.joinable());
  EXPECT_EQ(inside, outside);
  EXPECT_NE(inside, platform::this_thread::id());
  EXPECT_EQ(where, cpu);
  EXPECT_EQ(name, "a-name-of-more-");
}

TEST(Thread, ACpuThatIsNotThereIsAnErrorAndTheBodyDoesNotRun) {
  bool ran = false;
  const Result<Thread> thread = Thread::create({.name = "lost", .cpu = 100'000}, [&] { ran = true; });
  ASSERT_FALSE(thread);
  EXPECT_EQ(thread.error().code, Errc::kSystem);
  EXPECT_EQ(thread.error().sys_errno, EINVAL);
  EXPECT_NE(thread.error().what.find("'lost' to CPU 100000"), std::string::npos);
  EXPECT_FALSE(ran);
  EXPECT_FALSE(platform::this_thread::set_cpu(-1));
}

TEST(Thread, ADetachedOneGoesOn) {
  platform::Atomic<std::uint32_t> done{0};
  Thread::create({},
                 [&] {
                   done.store(1);
                   platform::wake_word(&done, 1);
                 })
      .value()
      .detach();
  while (done.load() == 0) ASSERT_TRUE(platform::wait_word(done, 0, Clock::now() + seconds(20)));
}

TEST(Thread, SlotsArePerThreadAndPerTag) {
  struct A;
  struct B;
  int here = 0;
  platform::thread_slot<A>() = &here;
  EXPECT_EQ(platform::thread_slot<B>(), nullptr);
  void* there = &here;
  Thread::create({}, [&] { there = platform::thread_slot<A>(); }).value().join();
  EXPECT_EQ(there, nullptr);
  platform::thread_slot<A>() = nullptr;
}

TEST(OnlineCpus, AreAscendingAndIncludeTheCurrentOne) {
  const std::vector<int> cpus = platform::online_cpus();
  const std::set<int> sorted(cpus.begin(), cpus.end());
  EXPECT_EQ(std::vector<int>(sorted.begin(), sorted.end()), cpus);
  EXPECT_TRUE(sorted.contains(platform::this_thread::current_cpu()));
}

TEST(WaitWord, ReturnsAtOnceWhenTheWordDiffers) {
  const platform::Atomic<std::uint32_t> word{1};
  EXPECT_TRUE(platform::wait_word(word, 0));
}

TEST(WaitWord, TimesOutNeverEarly) {
  const platform::Atomic<std::uint32_t> word{0};
  const auto until = Clock::now() + milliseconds(2);
  while (platform::wait_word(word, 0, until)) {}
  EXPECT_GE(Clock::now(), until);
  EXPECT_FALSE(platform::wait_word(word, 0, platform::TimePoint{} - seconds(1))) << "long past";
}

TEST(WakeWord, TouchesOnlyTheAddress) {
  platform::wake_word(reinterpret_cast<platform::Atomic<std::uint32_t>*>(0x1000), 1);  // nothing is mapped there
}

TEST(SleepUntil, IsNeverEarly) {
  const auto until = Clock::now() + milliseconds(2);
  platform::this_thread::sleep_until(until);
  EXPECT_GE(Clock::now(), until);
}

// Dekker: without the fences both may read 0 (and do, on any x86, within some ten thousand rounds).
TEST(Fence, OrdersAStoreBeforeALaterLoad) {
  constexpr std::uint32_t kRounds = 20'000;
  platform::Atomic<int> x{0};
  platform::Atomic<int> y{0};
  int saw_x = 0;
  int saw_y = 0;
  platform::Atomic<std::uint32_t> at[2]{{0}, {0}};
  const auto meet = [&](int me, std::uint32_t round) {
    at[me].store(round, std::memory_order_release);
    while (at[1 - me].load(std::memory_order_acquire) < round) platform::this_thread::yield();
  };
  const auto play = [&](int me, platform::Atomic<int>& mine, platform::Atomic<int>& other, int& saw) {
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      if (me == 0) {
        x.store(0, std::memory_order_relaxed);
        y.store(0, std::memory_order_relaxed);
      }
      meet(me, 3 * round + 1);
      mine.store(1, std::memory_order_relaxed);
      platform::fence(std::memory_order_seq_cst);
      saw = other.load(std::memory_order_relaxed);
      meet(me, 3 * round + 2);
      if (me == 0) { ASSERT_TRUE(saw_x == 1 || saw_y == 1) << "round " << round; }
      meet(me, 3 * round + 3);
    }
  };
  Thread other = Thread::create({}, [&] { play(1, y, x, saw_y); }).value();
  play(0, x, y, saw_x);
  other.join();
}

}  // namespace
}  // namespace upci
