// SPDX-License-Identifier: Apache-2.0
// Rules 1 to 7: queueing, and what a run may count on.
#include <algorithm>
#include <array>
#include <cstddef>
#include <new>

#include "tests/workqueue/rules.h"
#include "workqueue/lifetime.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

TEST(QueueingRules, Rule01OneOfNRacingCallersWins) {
  under_many_schedules([] {
    auto engine = make_engine();
    Counter counter;
    platform::Atomic<int> wins{0};
    {
      Occupied occupied(*engine, 0);
      in_threads(4, [&](unsigned) {
        if (engine->queue_work_on(0, engine->system_wq(), counter.work)) wins.fetch_add(1);
      });
      EXPECT_EQ(wins.load(), 1);
      EXPECT_TRUE(counter.work.is_pending());
    }
    engine->flush_work(counter.work);
    EXPECT_EQ(counter.runs.load(), 1);
  });
}

TEST(QueueingRules, Rule01EachTrueIsOneRun) {
  under_many_schedules([] {
    auto engine = make_engine();
    Counter counter;
    platform::Atomic<int> wins{0};
    in_threads(3, [&](unsigned cpu) {
      for (int i = 0; i < 5; i++) {
        if (engine->queue_work_on(static_cast<int>(cpu), engine->system_wq(), counter.work)) wins.fetch_add(1);
      }
    });
    engine->flush_work(counter.work);
    EXPECT_EQ(counter.runs.load(), wins.load());
    EXPECT_GE(wins.load(), 1);
  });
}

/// Two threads that queue, and a worker that becomes idle again and again.
void expect_each_to_wake(Engine& engine, Workqueue& queue) {
  const Prompt prompt;
  Counter counters[2];
  in_threads(2, [&](unsigned thread) {
    for (int i = 0; i < 4; i++) {
      EXPECT_TRUE(engine.queue_work_on(1, queue, counters[thread].work));
      engine.flush_work(counters[thread].work);
    }
  });
  EXPECT_EQ(counters[0].runs.load() + counters[1].runs.load(), 8);
}

TEST(QueueingRules, Rule01EachTrueWakesAWorkerIfNobodyRuns) {
  under_many_schedules([] {
    auto engine = make_engine(overseen_rarely());
    expect_each_to_wake(*engine, engine->system_wq());
  });
}

// A pool of bottom halves has one worker: nobody stands by who would look while it becomes idle.
TEST(QueueingRules, Rule01EachTrueWakesTheOnlyWorkerOfBottomHalves) {
  under_many_schedules([] {
    auto engine = make_engine(overseen_rarely());
    expect_each_to_wake(*engine, engine->system_bh_wq());
  });
}

TEST(QueueingRules, Rule01NothingIsTakenWhileDisabled) {
  under_many_schedules([] {
    auto engine = make_engine();
    Counter counter;
    engine->disable_work(counter.work);
    platform::Atomic<int> wins{0};
    in_threads(2, [&](unsigned) {
      if (engine->schedule_work(counter.work)) wins.fetch_add(1);
    });
    EXPECT_EQ(wins.load(), 0);
    EXPECT_FALSE(counter.work.is_pending());
    EXPECT_TRUE(engine->enable_work(counter.work));
    EXPECT_TRUE(engine->schedule_work(counter.work));
    engine->flush_work(counter.work);
    EXPECT_EQ(counter.runs.load(), 1);
  });
}

TEST(QueueingRules, Rule02WhatALosingCallerWroteIsSeen) {
  under_many_schedules([] {
    struct Mailbox {
      void run(Work&) { seen.store(value.load(std::memory_order_relaxed), std::memory_order_relaxed); }
      platform::Atomic<int> value{0};
      platform::Atomic<int> seen{0};
      Work work{this, &Mailbox::run};
    };
    auto engine = make_engine();
    Mailbox mailbox;
#if defined(UPCI_SIM)
    constexpr int kLetters = 10;
#else
    constexpr int kLetters = 3000;
#endif
    for (int i = 1; i <= kLetters; i++) {
      mailbox.value.store(i, std::memory_order_relaxed);
      engine->queue_work_on(1, engine->system_wq(), mailbox.work);  // won or lost, the last letter must be read
    }
    engine->flush_work(mailbox.work);
    EXPECT_EQ(mailbox.seen.load(), kLetters);
  });
}

TEST(QueueingRules, Rule03WhatAWinnerWroteIsSeen) {
  under_many_schedules([] {
    struct Message {
      void run(Work&) {
        copy = text;
        read.fetch_add(1, std::memory_order_release);
      }
      int text = 0;  // plain on purpose: the queueing alone must order it
      int copy = 0;
      platform::Atomic<int> read{0};
      Work work{this, &Message::run};
    };
    auto engine = make_engine();
    Message message;
    for (int i = 1; i <= 6; i++) {
      message.text = i;
      EXPECT_TRUE(engine->queue_work_on(i / 2, engine->system_wq(), message.work));
      // By turns: waits for the engine, and for the function alone, which leaves the engine in the midst of its end.
      if (i % 2 == 0) engine->flush_work(message.work);
      EXPECT_TRUE(eventually([&] { return message.read.load(std::memory_order_acquire) == i; }));
      EXPECT_EQ(message.copy, i);
    }
    engine->flush_work(message.work);
  });
}

TEST(QueueingRules, Rule04QueueingOneselfAgainReturnsTrue) {
  under_many_schedules([] {
    struct Again {
      void run(Work& self) {
        EXPECT_FALSE(self.is_pending());
        if (++runs < 4) {
          EXPECT_TRUE(engine.schedule_work(self));
          EXPECT_FALSE(engine.schedule_work(self));
        }
      }
      Engine& engine;
      int runs = 0;
      Work work{this, &Again::run};
    };
    auto engine = make_engine();
    Again again{*engine};
    engine->schedule_work(again.work);
    while (engine->flush_work(again.work)) {}
    EXPECT_EQ(again.runs, 4);
  });
}

TEST(QueueingRules, Rule05RunsOfOneWorkNeverOverlap) {
  under_many_schedules([] {
    struct Exclusive {
      void run(Work&) {
        EXPECT_EQ(inside.fetch_add(1), 0);
        sleep_for(20us);  // lets others of this CPU start
        EXPECT_EQ(inside.fetch_sub(1), 1);
      }
      platform::Atomic<int> inside{0};
      Work work{this, &Exclusive::run};
    };
    auto engine = make_engine();
    Exclusive exclusive;
    in_threads(3, [&](unsigned thread) {
      for (unsigned i = 0; i < 4; i++) {
        engine->queue_work_on(static_cast<int>((thread + i) % 4), engine->system_wq(), exclusive.work);
        platform::this_thread::yield();
      }
    });
    engine->cancel_work_sync(exclusive.work);
    EXPECT_EQ(exclusive.inside.load(), 0);
  });
}

TEST(QueueingRules, Rule06TheFunctionMayFreeItsWork) {
  under_many_schedules([] {
    struct Suicidal {
      explicit Suicidal(platform::Atomic<int>& count) : freed(count) {}
      void go(Work&) {
        platform::Atomic<int>& count = freed;
        delete this;
        count.fetch_add(1);
      }
      platform::Atomic<int>& freed;
      Work work{this, &Suicidal::go};
    };
    auto engine = make_engine();
    platform::Atomic<int> freed{0};
    for (int i = 0; i < 8; i++) {
      auto* suicidal = new Suicidal(freed);
      EXPECT_TRUE(engine->queue_work_on(i % 4, engine->system_wq(), suicidal->work));
    }
    EXPECT_TRUE(eventually([&] { return freed.load() == 8; }));
  });
}

/// A work that ends its own life; somebody else uses its place from then on, who notices if it is written to.
struct Vacated {
  static constexpr std::byte kOthers{0x5a};
  void go(Work& work) {
    work.~Work();
    std::ranges::fill(place, kOthers);
    left.store(1);
  }
  Work& move_in() { return *new (place.data()) Work(this, &Vacated::go); }
  bool untouched() const {
    return std::ranges::all_of(place, [](std::byte byte) { return byte == kOthers; });
  }
  alignas(Work) std::array<std::byte, sizeof(Work)> place;
  platform::Atomic<int> left{0};
};

TEST(QueueingRules, Rule06NothingIsWrittenWhereAFreedWorkWas) {
  under_many_schedules([] {
    auto engine = make_engine();
    Vacated vacated[4];
    for (int cpu = 0; cpu < 4; cpu++) {
      EXPECT_TRUE(engine->queue_work_on(cpu, engine->system_wq(), vacated[cpu].move_in()));
    }
    for (int cpu = 0; cpu < 4; cpu++) {
      EXPECT_TRUE(eventually([&] { return vacated[cpu].left.load() != 0; }));
      EXPECT_TRUE(engine->work_on_cpu(cpu, [] {}).has_value());  // whoever ran it has gone on
      EXPECT_TRUE(vacated[cpu].untouched());
    }
  });
}

struct Recycled {
  void first(Work& work) {
    lifetime::hand_over(work);  // the test frees it now
    starts.fetch_add(1);
    go_on.wait();
    ends.fetch_add(1);
  }
  void second(Work&) { second_runs.fetch_add(1); }
  platform::Atomic<int> starts{0};
  platform::Atomic<int> ends{0};
  platform::Atomic<int> second_runs{0};
  Completion go_on;
};

TEST(QueueingRules, Rule07ARecycledAddressWithAnotherFunctionIsNoCollision) {
  under_many_schedules([] {
    auto engine = make_engine();
    Recycled recycled;
    alignas(Work) std::byte place[sizeof(Work)];
    auto* old = new (place) Work(&recycled, &Recycled::first);
    engine->queue_work_on(2, engine->system_wq(), *old);
    EXPECT_TRUE(eventually([&] { return recycled.starts.load() == 1; }));
    old->~Work();  // its function runs: it is no longer the engine's
    auto* other = new (place) Work(&recycled, &Recycled::second);
    EXPECT_TRUE(engine->queue_work_on(2, engine->system_wq(), *other));
    EXPECT_TRUE(eventually([&] { return recycled.second_runs.load() == 1; }));
    EXPECT_EQ(recycled.ends.load(), 0);  // the old run still waits
    recycled.go_on.complete();
    EXPECT_TRUE(eventually([&] { return recycled.ends.load() == 1; }));
    engine->cancel_work_sync(*other);
    other->~Work();
  });
}

TEST(QueueingRules, Rule07ARecycledAddressWithTheSameFunctionWaits) {
  under_many_schedules([] {
    auto engine = make_engine();
    Recycled recycled;
    Counter behind;
    alignas(Work) std::byte place[sizeof(Work)];
    auto* old = new (place) Work(&recycled, &Recycled::first);
    engine->queue_work_on(2, engine->system_wq(), *old);
    EXPECT_TRUE(eventually([&] { return recycled.starts.load() == 1; }));
    old->~Work();
    auto* same = new (place) Work(&recycled, &Recycled::first);
    EXPECT_TRUE(engine->queue_work_on(2, engine->system_wq(), *same));
    engine->queue_work_on(2, engine->system_wq(), behind.work);
    engine->flush_work(behind.work);  // the CPU went past it
    EXPECT_EQ(recycled.starts.load(), 1);
    recycled.go_on.complete();
    EXPECT_TRUE(eventually([&] { return recycled.ends.load() == 2; }));
    engine->cancel_work_sync(*same);
    same->~Work();
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
