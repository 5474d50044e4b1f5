// SPDX-License-Identifier: Apache-2.0
#include "workqueue/timer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "workqueue/delayed_work.h"

namespace upci {
namespace {

void nothing(Work&) {}

TEST(TimerHeap, GivesBackWhatWasNotErasedInTheOrderOfExpiry) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; round++) {
    DelayedWork owner(&nothing);
    std::vector<std::unique_ptr<Timer>> timers;
    TimerHeap heap;
    std::vector<std::int64_t> expected;
    for (int i = 0; i < 60; i++) {
      timers.push_back(std::make_unique<Timer>(owner));
      heap.insert(*timers.back(), platform::TimePoint(platform::Nanoseconds(random() % 40)));
    }
    for (auto& timer : timers) {
      if (random() % 3 == 0) {
        heap.erase(*timer);
        EXPECT_FALSE(timer->armed);
      } else {
        expected.push_back(timer->expires.time_since_epoch().count());
      }
    }
    std::ranges::sort(expected);
    std::vector<std::int64_t> popped;
    while (Timer* timer = heap.pop_expired(platform::kNever))
      popped.push_back(timer->expires.time_since_epoch().count());
    EXPECT_EQ(popped, expected);
  }
}

TEST(TimerHeap, KeepsWhatHasNotExpired) {
  DelayedWork owner(&nothing);
  Timer timer(owner);
  TimerHeap heap;
  heap.insert(timer, platform::TimePoint(platform::Nanoseconds(10)));
  EXPECT_EQ(heap.pop_expired(platform::TimePoint(platform::Nanoseconds(9))), nullptr);
  EXPECT_EQ(heap.pop_expired(platform::TimePoint(platform::Nanoseconds(10))), &timer);
  EXPECT_EQ(heap.top(), nullptr);
}

}  // namespace
}  // namespace upci
