// SPDX-License-Identifier: Apache-2.0
// Framework waits under many interleavings.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "base/wait.h"
#include "tests/sim.h"

namespace upci {
namespace {

using platform::Atomic;
using platform::Thread;
using std::chrono::seconds;
namespace sim = platform::sim;

class Recorder final : public BlockingObserver {
 public:
  void about_to_block() noexcept override { log += "("; }
  void resumed() noexcept override { log += ")"; }
  std::string log;
};

TEST(SimCompletion, OnTheWaitersStackIsNotTouchedAfterTheWaitReturned) {
  test::for_each_seed(2000, [] {
    alignas(Completion) std::byte memory[sizeof(Completion)];
    auto* done = ::new (static_cast<void*>(memory)) Completion;
    Thread thread = Thread::create({.name = "completer"}, [done] { done->complete(); }).value();
    if (sim::random(2) == 0) {
      while (!done->wait(Deadline::after(std::chrono::nanoseconds(1)))) {}
    } else {
      done->wait();
    }
    std::memset(memory, 0x5a, sizeof(memory));  // somebody else's frame now
    thread.join();
    for (const std::byte byte : memory) EXPECT_EQ(byte, std::byte{0x5a});
  });
}

TEST(SimCompletion, WakesEveryWaiter) {
  test::for_each_seed(1000, [] {
    Completion done;
    Atomic<int> woken{0};
    std::vector<Thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.push_back(Thread::create({.name = "waiter"}, [&] {
                          if (sim::random(2) == 0) {
                            done.wait();
                          } else {
                            EXPECT_TRUE(done.wait(Deadline::after(seconds(60))));
                          }
                          EXPECT_TRUE(done.is_complete());
                          woken.fetch_add(1);
                        }).value());
    }
    done.complete();
    for (Thread& thread : threads) thread.join();
    EXPECT_EQ(woken.load(), 4);
  });
}

TEST(SimWaitWord, AWaitThatSeesTheOldValueIsWoken) {
  test::for_each_seed(1000, [] {
    Atomic<std::uint32_t> word{0};
    Thread waker = Thread::create({.name = "waker"}, [&] {
                     word.store(1);
                     platform::wake_word(&word, 1);
                   }).value();
    while (word.load() == 0) platform::wait_word(word, 0);
    waker.join();
  });
}

TEST(SimWaitWord, WakesAtMostTheNumberGiven) {
  test::for_each_seed(300,
                      [] {
                        Atomic<std::uint32_t> word{0};
                        Atomic<int> woken{0};
                        std::vector<Thread> threads;
                        for (int i = 0; i < 4; ++i) {
                          threads.push_back(Thread::create({.name = "waiter"}, [&] {
                                              platform::wait_word(word, 0);
                                              woken.fetch_add(1);
                                            }).value());
                        }
                        sleep_for(seconds(1));
                        EXPECT_EQ(woken.load(), 0);
                        platform::wake_word(&word, 3);
                        sleep_for(seconds(1));
                        EXPECT_EQ(woken.load(), 3);
                        platform::wake_word(&word, 3);
                        for (Thread& thread : threads) thread.join();
                      },
                      {.spurious = false});
}

TEST(SimWaitWord, SomeSeedsWakeWithoutACause) {
  int spurious = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    ASSERT_TRUE(sim::run({.seed = seed}, [&] {
                  const Atomic<std::uint32_t> word{0};
                  const auto until = platform::Clock::now() + seconds(1);
                  if (platform::wait_word(word, 0, until)) ++spurious;
                }).ok());
  }
  EXPECT_GT(spurious, 0);
  EXPECT_LT(spurious, 100);
}

TEST(SimMutex, OneHolderAtATime) {
  test::for_each_seed(1000, [] {
    Mutex mutex;
    Atomic<int> inside{0};
    std::vector<Thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.push_back(Thread::create({.name = "locker"}, [&] {
                          for (int round = 0; round < 3; ++round) {
                            const std::lock_guard lock(mutex);
                            EXPECT_EQ(inside.fetch_add(1), 0);
                            if (sim::random(4) == 0) sleep_for(seconds(1));
                            EXPECT_EQ(inside.fetch_sub(1), 1);
                          }
                        }).value());
    }
    for (Thread& thread : threads) thread.join();
  });
}

TEST(SimMutex, TellsTheObserverExactlyWhenItIsContended) {
  test::for_each_seed(100, [] {
    Mutex mutex;
    Completion held;
    Thread holder = Thread::create({.name = "holder"}, [&] {
                      const std::lock_guard lock(mutex);
                      held.complete();
                      sleep_for(seconds(10));
                    }).value();
    held.wait();
    Recorder recorder;
    set_blocking_observer(&recorder);
    mutex.lock();
    EXPECT_EQ(recorder.log, "()");
    mutex.unlock();
    mutex.lock();
    EXPECT_EQ(recorder.log, "()");
    mutex.unlock();
    set_blocking_observer(nullptr);
    holder.join();
  });
}

}  // namespace
}  // namespace upci
