// SPDX-License-Identifier: Apache-2.0
// The simulated scheduler: one seed is one interleaving, and many seeds find what depends on it.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "base/stack.h"
#include "base/wait.h"
#include "tests/sim.h"

namespace upci {

[[gnu::noinline]] void sim_test_waits_here(Completion& wake) {
  wake.wait();
  asm volatile("" : : : "memory");
}

namespace {

using platform::Atomic;
using platform::Thread;
using std::chrono::seconds;
namespace sim = platform::sim;

Thread start(std::string name, std::function<void()> body) {
  return Thread::create({.name = std::move(name)}, std::move(body)).value();
}

// Adds to a counter by a load and a store, with all that may come in between.
int racy_count(int threads, int rounds) {
  Atomic<int> counter{0};
  std::vector<Thread> started;
  for (int i = 0; i < threads; ++i) {
    started.push_back(start("adder", [&] {
      for (int round = 0; round < rounds; ++round) counter.store(counter.load() + 1);
    }));
  }
  for (Thread& thread : started) thread.join();
  return counter.load();
}

TEST(SimSchedule, TheSameSeedIsTheSameRun) {
  std::set<std::uint64_t> traces;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    std::string first;
    std::string second;
    const auto body = [](std::string& log) {
      return [&log] {
        platform::Mutex mutex;
        std::vector<Thread> threads;
        for (int i = 0; i < 4; ++i) {
          threads.push_back(start("t", [&log, &mutex, i] {
            for (int round = 0; round < 5; ++round) {
              mutex.lock();
              log += static_cast<char>('0' + i);
              mutex.unlock();
              log += static_cast<char>('a' + platform::this_thread::current_cpu());
              sleep_for(std::chrono::microseconds(sim::random(3)));
            }
          }));
        }
        for (Thread& thread : threads) thread.join();
      };
    };
    const sim::Outcome one = sim::run({.seed = seed}, body(first));
    const sim::Outcome two = sim::run({.seed = seed}, body(second));
    ASSERT_TRUE(one.ok()) << one.text;
    EXPECT_EQ(first, second) << "seed " << seed;
    EXPECT_EQ(one.trace, two.trace);
    EXPECT_EQ(one.steps, two.steps);
    EXPECT_EQ(one.elapsed, two.elapsed);
    traces.insert(one.trace);
  }
  EXPECT_GT(traces.size(), 45u) << "other seeds are other runs";
}

TEST(SimSchedule, SomeSeedInAThousandLosesACount) {
  int lost = 0;
  int kept = 0;
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    int count = 0;
    ASSERT_TRUE(sim::run({.seed = seed}, [&] { count = racy_count(2, 1); }).ok());
    count == 2 ? ++kept : ++lost;
  }
  EXPECT_GT(lost, 20);
  EXPECT_GT(kept, 20) << "and other seeds do not";
}

TEST(SimSchedule, AMutexMakesTheCountExact) {
  test::for_each_seed(500, [] {
    platform::Mutex mutex;
    Atomic<int> counter{0};
    std::vector<Thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.push_back(start("adder", [&] {
        for (int round = 0; round < 10; ++round) {
          mutex.lock();
          counter.store(counter.load() + 1);
          mutex.unlock();
        }
      }));
    }
    for (Thread& thread : threads) thread.join();
    EXPECT_EQ(counter.load(), 40);
  });
}

// A bug of depth three: it shows only when one thread is stopped at one place for long, while another goes through two.
TEST(SimSchedule, SomeSeedFindsABugThatNeedsALongPause) {
  bool found = false;
  for (std::uint64_t seed = 1; seed <= 1000 && !found; ++seed) {
    ASSERT_TRUE(sim::run({.seed = seed}, [&] {
                  Atomic<int> turn{0};
                  Thread slow = start("slow", [&] {
                    const int before = turn.load();
                    const int after = turn.load();
                    found |= after - before >= 40;
                  });
                  Thread quick = start("quick", [&] {
                    for (int i = 0; i < 50; ++i) turn.fetch_add(1);
                  });
                  slow.join();
                  quick.join();
                }).ok());
  }
  EXPECT_TRUE(found);
}

TEST(SimSchedule, AnAtomicHasTheOperationsOfStdAtomic) {
  ASSERT_TRUE(sim::run({}, [] {
                Atomic<unsigned> a{6};
                EXPECT_EQ(a.fetch_or(1), 6u);
                EXPECT_EQ(a.fetch_and(5), 7u);
                EXPECT_EQ(a.fetch_xor(1), 5u);
                EXPECT_EQ(a.fetch_sub(1), 4u);
                EXPECT_EQ(a++, 3u);
                EXPECT_EQ(--a, 3u);
                EXPECT_EQ(a.exchange(9), 3u);
                unsigned expected = 8;
                EXPECT_FALSE(a.compare_exchange_strong(expected, 1));
                EXPECT_EQ(expected, 9u);
                while (!a.compare_exchange_weak(expected, 1)) EXPECT_EQ(expected, 9u);
                EXPECT_EQ(a.load(), 1u);
                int array[3]{};
                Atomic<int*> p{array};
                EXPECT_EQ(p.fetch_add(2), array);
                EXPECT_EQ(p.fetch_sub(1), array + 2);
                EXPECT_EQ(++p, array + 2);
                Atomic<bool> flag{false};
                flag = true;
                EXPECT_TRUE(flag);
                EXPECT_EQ(Atomic<std::uint8_t>{255}.fetch_add(1), 255);
              }).ok());
}

TEST(SimSchedule, SlotsAndIdsArePerFiber) {
  struct Tag;
  test::for_each_seed(50, [] {
    int here = 0;
    platform::thread_slot<Tag>() = &here;
    EXPECT_EQ(platform::this_thread::id(), 1);
    Thread thread = start("other", [] {
      EXPECT_EQ(platform::thread_slot<Tag>(), nullptr);
      EXPECT_EQ(platform::this_thread::id(), 2);
    });
    EXPECT_EQ(thread.id(), 2);
    thread.join();
    EXPECT_EQ(platform::thread_slot<Tag>(), &here);
  });
}

TEST(SimSchedule, APinnedFiberIsOnItsCpuAndOthersMove) {
  std::set<int> seen;
  test::for_each_seed(100, [&seen] {
    EXPECT_EQ(platform::online_cpus(), (std::vector<int>{0, 1, 2, 3}));
    Thread pinned = Thread::create({.name = "pinned", .cpu = 2}, [] {
                      for (int i = 0; i < 10; ++i) EXPECT_EQ(platform::this_thread::current_cpu(), 2);
                    }).value();
    for (int i = 0; i < 10; ++i) seen.insert(platform::this_thread::current_cpu());
    pinned.join();
  });
  EXPECT_EQ(seen, (std::set<int>{0, 1, 2, 3}));
}

TEST(SimSchedule, NothingRunsOnACpuThatIsOffline) {
  test::for_each_seed(100, [] {
    sim::set_online(2, false);
    EXPECT_EQ(platform::online_cpus(), (std::vector<int>{0, 1, 3}));
    const Result<Thread> thread = Thread::create({.name = "pinned", .cpu = 2}, [] {});
    ASSERT_FALSE(thread);
    EXPECT_EQ(thread.error().sys_errno, EINVAL);
    EXPECT_FALSE(platform::this_thread::set_cpu(2));
    for (int i = 0; i < 20; ++i) EXPECT_NE(platform::this_thread::current_cpu(), 2);
    sim::set_online(2, true);
    ASSERT_TRUE(platform::this_thread::set_cpu(2));
    EXPECT_EQ(platform::this_thread::current_cpu(), 2);
    sim::set_online(2, false);
    EXPECT_NE(platform::this_thread::current_cpu(), 2) << "the kernel moves a pinned thread, too";
  });
}

TEST(SimSchedule, ThreadsCanBeRefused) {
  ASSERT_TRUE(sim::run({}, [] {
                sim::refuse_threads(true);
                EXPECT_EQ(Thread::create({}, [] {}).error().sys_errno, EAGAIN);
                sim::refuse_threads(false);
                start("t", [] {}).join();
              }).ok());
}

TEST(SimSchedule, ARunEndsOnlyAfterItsDetachedFibers) {
  test::for_each_seed(100, [] {
    static int ended;
    ended = 0;
    for (int i = 0; i < 3; ++i) {
      start("detached", [] {
        sleep_for(seconds(5));
        ++ended;
      }).detach();
    }
    sleep_for(seconds(6));
    EXPECT_EQ(ended, 3);
  });
}

TEST(SimSchedule, AFibersStackCanBeTakenWhereItWaits) {
  test::for_each_seed(20, [] {
    Completion wake;
    Thread thread = start("waiter", [&] { sim_test_waits_here(wake); });
    sleep_for(seconds(1));
    const Result<StackTrace> trace = capture_stack_of(thread.id(), Deadline::after(seconds(1)));
    ASSERT_TRUE(trace);
    if (sim::current_seed() == 1) {  // naming takes milliseconds
      std::string names;
      for (const StackFrame& frame : symbolize(*trace)) names += frame.function + "\n";
      EXPECT_NE(names.find("sim_test_waits_here"), std::string::npos) << names;
      EXPECT_NE(names.find("Completion"), std::string::npos) << names;
    }
    wake.complete();
    thread.join();
    EXPECT_EQ(capture_stack_of(thread.id(), Deadline::after(seconds(1))).error().sys_errno, ESRCH);
    EXPECT_EQ(capture_stack_of(99, Deadline::after(seconds(1))).error().sys_errno, ESRCH);
  });
}

TEST(SimSchedule, AnExceptionInFlightStaysWithItsFiber) {
  test::for_each_seed(200, [] {
    const auto thrower = [](int number) {
      return [number] {
        for (int round = 0; round < 5; ++round) {
          try {
            platform::this_thread::yield();
            throw number;
          } catch (int caught) {
            platform::this_thread::yield();  // another fiber throws and catches meanwhile
            EXPECT_EQ(caught, number);
            try {
              throw;
            } catch (int again) { EXPECT_EQ(again, number); }
          }
        }
      };
    };
    Thread a = start("a", thrower(1));
    Thread b = start("b", thrower(2));
    a.join();
    b.join();
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  });
}

}  // namespace
}  // namespace upci
