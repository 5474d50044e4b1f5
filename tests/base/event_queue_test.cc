// SPDX-License-Identifier: Apache-2.0
// EventQueue on the real operating system.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <vector>

#include "base/event_fd.h"
#include "base/platform.h"

namespace upci {
namespace {

using platform::Clock;
using platform::Event;
using platform::EventQueue;
using platform::EventWait;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Long enough for any machine; a test that is right never waits for it.
platform::TimePoint patience() { return Clock::now() + seconds(20); }

class EventQueueTest : public testing::Test {
 protected:
  EventQueue queue_ = EventQueue::create().value();
  std::array<Event, 4> events_;

  bool empty() { return queue_.wait(events_, Clock::now()).timed_out; }
};

TEST_F(EventQueueTest, ANotifyBeforeTheWaitIsKept) {
  queue_.notify();
  EXPECT_TRUE(queue_.wait(events_, patience()).notified);
  EXPECT_TRUE(empty()) << "it was consumed";
}

TEST_F(EventQueueTest, AFullRoundOfNotifiesWakesOncePerNotify) {
  for (int i = 0; i < 100; ++i) {
    queue_.notify();
    ASSERT_TRUE(queue_.wait(events_, patience()).notified) << i;
  }
}

TEST_F(EventQueueTest, TimesOutNeverEarly) {
  for (const auto span :
       {std::chrono::microseconds(1), std::chrono::microseconds(150), std::chrono::microseconds(2500)}) {
    const auto until = Clock::now() + span;
    const EventWait result = queue_.wait(events_, until);
    EXPECT_TRUE(result.timed_out);
    EXPECT_GE(Clock::now(), until);
  }
}

TEST_F(EventQueueTest, AnAlarmGoesOffOnceAndNotEarly) {
  const auto when = Clock::now() + milliseconds(3);
  queue_.set_alarm(when);
  EXPECT_TRUE(queue_.wait(events_, patience()).alarm);
  EXPECT_GE(Clock::now(), when);
  EXPECT_TRUE(empty());
}

TEST_F(EventQueueTest, APastAlarmGoesOffAtOnceAlsoAtTheStartOfTheClock) {
  queue_.set_alarm(Clock::now() - seconds(1));
  EXPECT_TRUE(queue_.wait(events_, patience()).alarm);
  queue_.set_alarm(platform::TimePoint{});
  EXPECT_TRUE(queue_.wait(events_, patience()).alarm);
}

TEST_F(EventQueueTest, ALaterAlarmReplacesAnEarlierOneEvenWhenThatIsDue) {
  queue_.set_alarm(Clock::now() - seconds(1));
  queue_.set_alarm(Clock::now() + seconds(1000));
  EXPECT_TRUE(empty());
  queue_.set_alarm(Clock::now());
  queue_.set_alarm(platform::kNever);
  EXPECT_TRUE(empty());
}

TEST_F(EventQueueTest, ReportsTheTokenOncePerSignalAndNotWhileItJustStaysReadable) {
  const EventFd fd = EventFd::create().value();
  ASSERT_TRUE(queue_.add(fd.fd(), 77));
  fd.signal();
  ASSERT_EQ(queue_.wait(events_, patience()).events, 1u);
  EXPECT_EQ(events_[0].token, 77u);
  EXPECT_TRUE(empty()) << "still readable, but no new edge";
  fd.signal();
  EXPECT_EQ(queue_.wait(events_, patience()).events, 1u);
  EXPECT_EQ(fd.drain(), 2u);
  EXPECT_EQ(fd.drain(), 0u);
}

TEST_F(EventQueueTest, ReportsADescriptorThatWasReadableBeforeItWasAdded) {
  const EventFd fd = EventFd::create().value();
  fd.signal();
  ASSERT_TRUE(queue_.add(fd.fd(), 5));
  EXPECT_EQ(queue_.wait(events_, patience()).events, 1u);
}

TEST_F(EventQueueTest, ARemovedDescriptorIsSilent) {
  const EventFd fd = EventFd::create().value();
  ASSERT_TRUE(queue_.add(fd.fd(), 5));
  fd.signal();
  ASSERT_TRUE(queue_.remove(fd.fd()));
  EXPECT_TRUE(empty());
  EXPECT_FALSE(queue_.remove(fd.fd()));
}

TEST_F(EventQueueTest, RefusesWhatItCannotWaitFor) {
  EXPECT_EQ(queue_.add(-1, 1).error().sys_errno, EBADF);
  const EventFd fd = EventFd::create().value();
  EXPECT_EQ(queue_.add(fd.fd(), EventQueue::kMaxToken + 1).error().code, Errc::kInvalid);
  EXPECT_TRUE(queue_.add(fd.fd(), EventQueue::kMaxToken));
  EXPECT_EQ(queue_.add(fd.fd(), 1).error().sys_errno, EEXIST);
}

TEST_F(EventQueueTest, ASpanThatIsTooSmallLosesNothing) {
  std::vector<EventFd> fds;
  for (std::uint64_t i = 0; i < 5; ++i) {
    fds.push_back(EventFd::create().value());
    ASSERT_TRUE(queue_.add(fds.back().fd(), i));
    fds.back().signal();
  }
  queue_.notify();
  std::array<bool, 5> seen{};
  bool notified = false;
  for (int i = 0; i < 6; ++i) {
    std::array<Event, 1> one;
    const EventWait result = queue_.wait(one, patience());
    notified |= result.notified;
    if (result.events == 1) seen[one[0].token] = true;
  }
  EXPECT_TRUE(notified);
  EXPECT_EQ(seen, (std::array<bool, 5>{true, true, true, true, true}));
}

TEST_F(EventQueueTest, ASocketReportsEachArrival) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  const UniqueFd here(ends[0]);
  const UniqueFd there(ends[1]);
  ASSERT_TRUE(queue_.add(here.get(), 9));
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(::send(there.get(), "x", 1, 0), 1);
    EXPECT_EQ(queue_.wait(events_, patience()).events, 1u);
  }
}

// The waiters' contract: each of n signals to one queue is taken by some waiter, none is lost, and the sleepers share
// them. Each signal is sent after the one before was taken, so none may be merged.
TEST_F(EventQueueTest, EachEventWakesAWaiterAmongMany) {
  constexpr int kWaiters = 4;
  constexpr int kSignals = 2000;
  const EventFd fd = EventFd::create().value();
  ASSERT_TRUE(queue_.add(fd.fd(), 1));
  platform::Atomic<std::uint32_t> taken{0};
  platform::Atomic<bool> stop{false};
  platform::Atomic<int> failures{0};
  std::vector<platform::Thread> threads;
  for (int i = 0; i < kWaiters; ++i) {
    threads.push_back(platform::Thread::create({.name = "waiter"}, [&] {
                        std::array<Event, 2> events;
                        while (!stop.load()) {
                          const EventWait result = queue_.wait(events, patience());
                          if (result.timed_out) failures.fetch_add(1);
                          if (result.events != 0 || (result.notified && !stop.load())) {
                            taken.fetch_add(1);
                            platform::wake_word(&taken, 1);
                          }
                        }
                        queue_.notify();  // passes the end on to the next one
                      }).value());
  }
  for (std::uint32_t i = 0; i < kSignals; ++i) {
    i % 2 == 0 ? fd.signal() : queue_.notify();
    while (taken.load() == i && platform::wait_word(taken, i, patience())) {}
    ASSERT_EQ(taken.load(), i + 1);
  }
  stop.store(true);
  queue_.notify();
  for (platform::Thread& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
  EXPECT_EQ(taken.load(), static_cast<std::uint32_t>(kSignals));
}

}  // namespace
}  // namespace upci
