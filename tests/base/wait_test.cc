// SPDX-License-Identifier: Apache-2.0
// Framework waits on the real operating system; every interleaving of them is in sim_wait_test.cc.
#include "base/wait.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

namespace upci {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Recorder final : public BlockingObserver {
 public:
  Recorder() { set_blocking_observer(this); }
  ~Recorder() { set_blocking_observer(nullptr); }
  void about_to_block() noexcept override { log += "("; }
  void resumed() noexcept override { log += ")"; }
  std::string log;
};

TEST(SleepFor, LastsAtLeastAsLongAndTellsTheObserverOnce) {
  Recorder recorder;
  const auto start = platform::Clock::now();
  sleep_for(milliseconds(2));
  EXPECT_GE(platform::Clock::now() - start, milliseconds(2));
  EXPECT_EQ(recorder.log, "()");
}

TEST(BlockingScope, OnlyTheOutermostTellsTheObserver) {
  Recorder recorder;
  {
    BlockingScope outer;
    BlockingScope inner;
    sleep_for(milliseconds(0));
    EXPECT_EQ(recorder.log, "(");
  }
  EXPECT_EQ(recorder.log, "()");
}

TEST(Completion, AWaitForADoneOneDoesNotBlock) {
  Recorder recorder;
  Completion done;
  done.complete();
  EXPECT_TRUE(done.wait(Deadline::after(seconds(0))));
  done.wait();
  EXPECT_EQ(recorder.log, "");
}

TEST(Completion, TimesOutNeverEarly) {
  Completion never;
  const Deadline deadline = Deadline::after(milliseconds(2));
  EXPECT_FALSE(never.wait(deadline));
  EXPECT_TRUE(deadline.expired());
}

TEST(Completion, OnTheWaitersStackSurvivesItsFrame) {
  for (int round = 0; round < 2000; ++round) {
    auto done = std::make_unique<Completion>();
    Completion* const shared = done.get();
    platform::Thread thread = platform::Thread::create({}, [shared] { shared->complete(); }).value();
    ASSERT_TRUE(done->wait(Deadline::after(seconds(20))));
    done.reset();  // a sanitizer sees a late touch
    thread.join();
  }
}

TEST(Mutex, WithoutContentionTheObserverHearsNothing) {
  Recorder recorder;
  Mutex mutex;
  mutex.lock();
  EXPECT_FALSE(mutex.try_lock());
  mutex.unlock();
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
  EXPECT_EQ(recorder.log, "");
}

}  // namespace
}  // namespace upci
