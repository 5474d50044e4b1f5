// SPDX-License-Identifier: Apache-2.0
// EventQueue under many interleavings.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <vector>

#include "base/event_fd.h"
#include "base/wait.h"
#include "tests/sim.h"

namespace upci {
namespace {

using platform::Atomic;
using platform::Clock;
using platform::Event;
using platform::EventQueue;
using platform::EventWait;
using platform::Thread;
using std::chrono::seconds;
namespace sim = platform::sim;

TEST(SimEventQueue, ANotifyIsNeverLost) {
  test::for_each_seed(1000, [] {
    EventQueue queue = EventQueue::create().value();
    Atomic<int> taken{0};
    std::vector<Thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.push_back(Thread::create({.name = "waiter"}, [&] {
                          std::array<Event, 2> events;
                          EXPECT_TRUE(queue.wait(events).notified);
                          taken.fetch_add(1);
                          queue.notify();  // one for each of the others; a lost one is a deadlock
                        }).value());
    }
    queue.notify();
    for (Thread& thread : threads) thread.join();
    EXPECT_EQ(taken.load(), 3);
  });
}

TEST(SimEventQueue, AnAlarmWakesOneWaiterAtItsTimeExactly) {
  test::for_each_seed(500, [] {
    EventQueue queue = EventQueue::create().value();
    const auto start = Clock::now();
    int alarms = 0;
    int timeouts = 0;
    std::vector<Thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.push_back(Thread::create({.name = "waiter"}, [&] {
                          std::array<Event, 2> events;
                          const EventWait result = queue.wait(events, start + seconds(20));
                          EXPECT_NE(result.alarm, result.timed_out);
                          EXPECT_EQ(Clock::now(), start + seconds(result.alarm ? 10 : 20));
                          ++(result.alarm ? alarms : timeouts);
                        }).value());
    }
    queue.set_alarm(start + seconds(10));
    for (Thread& thread : threads) thread.join();
    EXPECT_EQ(alarms, 1);
    EXPECT_EQ(timeouts, 2);
  });
}

TEST(SimEventQueue, ALaterAlarmReplacesAnEarlierOne) {
  test::for_each_seed(200, [] {
    EventQueue queue = EventQueue::create().value();
    const auto start = Clock::now();
    std::array<Event, 2> events;
    queue.set_alarm(start);
    queue.set_alarm(start + seconds(5));
    EXPECT_TRUE(queue.wait(events, start + seconds(1)).timed_out);
    EXPECT_TRUE(queue.wait(events).alarm);
    EXPECT_EQ(Clock::now(), start + seconds(5));
    EXPECT_TRUE(queue.wait(events, start + seconds(6)).timed_out) << "it goes off once";
    queue.set_alarm(start);
    queue.set_alarm(platform::kNever);
    EXPECT_TRUE(queue.wait(events, start + seconds(7)).timed_out);
  });
}

TEST(SimEventQueue, EachSignalOfAnEventFdIsTakenBySomeWaiter) {
  test::for_each_seed(1000, [] {
    EventQueue queue = EventQueue::create().value();
    const EventFd fd = EventFd::create().value();
    ASSERT_TRUE(queue.add(fd.fd(), 42));
    Atomic<std::uint32_t> taken{0};
    Atomic<bool> stop{false};
    std::vector<Thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.push_back(Thread::create({.name = "waiter"}, [&] {
                          std::array<Event, 2> events;
                          while (!stop.load()) {
                            const EventWait result = queue.wait(events);
                            for (std::size_t e = 0; e < result.events; ++e) {
                              EXPECT_EQ(events[e].token, 42u);
                              taken.fetch_add(static_cast<std::uint32_t>(fd.drain()));
                            }
                          }
                          queue.notify();
                        }).value());
    }
    for (std::uint32_t i = 1; i <= 3; ++i) {
      fd.signal();
      if (sim::random(2) == 0) {
        while (taken.load() < i) platform::relax();
      }
    }
    while (taken.load() < 3) sleep_for(std::chrono::milliseconds(1));
    stop.store(true);
    queue.notify();
    for (Thread& thread : threads) thread.join();
    EXPECT_EQ(taken.load(), 3u);
  });
}

TEST(SimEventQueue, NoNewEdgeNoNewReport) {
  test::for_each_seed(100, [] {
    EventQueue queue = EventQueue::create().value();
    const EventFd fd = EventFd::create().value();
    fd.signal();
    ASSERT_TRUE(queue.add(fd.fd(), 1));
    std::array<Event, 2> events;
    EXPECT_EQ(queue.wait(events).events, 1u);
    EXPECT_TRUE(queue.wait(events, Clock::now() + seconds(1)).timed_out);
    fd.signal();
    EXPECT_EQ(queue.wait(events).events, 1u);
    fd.signal();
    ASSERT_TRUE(queue.remove(fd.fd()));
    EXPECT_TRUE(queue.wait(events, Clock::now() + seconds(1)).timed_out);
    EXPECT_FALSE(queue.remove(fd.fd()));
  });
}

TEST(SimEventQueue, ASocketThatNobodySpokeOfIsSeenBeforeTimeMovesOn) {
  test::for_each_seed(200, [] {
    EventQueue queue = EventQueue::create().value();
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    const UniqueFd here(ends[0]);
    const UniqueFd there(ends[1]);
    ASSERT_TRUE(queue.add(here.get(), 7));
    Thread sender = Thread::create({.name = "sender"}, [&] { ASSERT_EQ(::send(there.get(), "x", 1, 0), 1); }).value();
    std::array<Event, 2> events;
    const auto start = Clock::now();
    const EventWait result = queue.wait(events, start + seconds(100));
    EXPECT_EQ(result.events, 1u);
    EXPECT_EQ(Clock::now(), start);
    sender.join();
  });
}

TEST(SimEventQueue, ASpanThatIsTooSmallLosesNothing) {
  test::for_each_seed(200, [] {
    EventQueue queue = EventQueue::create().value();
    std::vector<EventFd> fds;
    Atomic<int> seen{0};
    std::vector<Thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.push_back(Thread::create({.name = "waiter"}, [&] {
                          std::array<Event, 1> one;
                          EXPECT_EQ(queue.wait(one).events, 1u);
                          seen.fetch_or(1 << one[0].token);
                        }).value());
    }
    for (std::uint64_t i = 0; i < 4; ++i) {
      fds.push_back(EventFd::create().value());
      ASSERT_TRUE(queue.add(fds.back().fd(), i));
      fds.back().signal();
    }
    for (Thread& thread : threads) thread.join();
    EXPECT_EQ(seen.load(), 15);
  });
}

}  // namespace
}  // namespace upci
