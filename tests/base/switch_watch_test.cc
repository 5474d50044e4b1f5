// SPDX-License-Identifier: Apache-2.0
// SwitchWatch and ThreadProbe on the real operating system. Skipped where the system does not allow to watch.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <optional>

#include "base/platform.h"

namespace upci {
namespace {

using platform::Atomic;
using platform::Clock;
using platform::Event;
using platform::EventQueue;
using platform::SwitchWatch;
using platform::Thread;
using platform::ThreadProbe;
using State = platform::SwitchWatch::State;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

platform::TimePoint patience() { return Clock::now() + seconds(20); }

/// A thread with a watch that does what it is told, on one CPU, and a queue that hears of it.
class SwitchWatchTest : public testing::Test {
 protected:
  void SetUp() override {
    if (auto tested = SwitchWatch::self_test(); !tested) GTEST_SKIP() << tested.error().message();
  }
  void TearDown() override {
    for (int fd : pipe_) {
      if (fd >= 0) ::close(fd);
    }
  }

  /// `body(watch)` runs in a thread of its own; `look(watch, probe)` in this one, once the watch is there.
  template <class Body, class Look>
  void with_worker(Body body, Look look) {
    ASSERT_EQ(::pipe(pipe_), 0);
    Atomic<std::uint32_t> ready{0};
    Atomic<std::uint32_t> over{0};
    std::optional<SwitchWatch> watch;
    auto thread = Thread::create({.name = "worker"}, [&] {
      auto made = SwitchWatch::create();
      ASSERT_TRUE(made.has_value()) << made.error().message();
      watch.emplace(std::move(*made));
      ASSERT_TRUE(queue_.add(*watch, 7).has_value());
      ready.store(1);
      platform::wake_word(&ready, 1);
      body(*watch);
      watch->disarm();
      while (over.load() == 0) platform::wait_word(over, 0);
    });
    ASSERT_TRUE(thread.has_value());
    while (ready.load() == 0) platform::wait_word(ready, 0);
    auto probe = ThreadProbe::open(thread->id());
    ASSERT_TRUE(probe.has_value());
    look(*watch, *probe);
    over.store(1);
    platform::wake_word(&over, 1);
    thread->join();
    EXPECT_TRUE(queue_.remove(*watch).has_value());
  }

  /// Waits for events until the thread is reported as blocked.
  bool wait_blocked(SwitchWatch& watch, const ThreadProbe& probe) {
    std::array<Event, 2> events;
    for (const auto end = patience();;) {
      // Found preempted: nothing is reported until it is looked at again.
      const bool look = watch.lapsed();
      const auto until = look ? Clock::now() + std::chrono::milliseconds(1) : end;
      const bool timed_out = queue_.wait(events, until).timed_out;
      if (timed_out && (!look || Clock::now() > end)) return false;
      if (!timed_out && events[0].token != 7) return false;
      if (watch.rearm(probe) == State::kBlocked) return true;
    }
  }
  void write_byte() { ASSERT_EQ(::write(pipe_[1], "x", 1), 1); }
  void read_byte() {
    char byte = 0;
    ASSERT_EQ(::read(pipe_[0], &byte, 1), 1);
  }

  EventQueue queue_ = EventQueue::create().value();
  int pipe_[2] = {-1, -1};
};

TEST_F(SwitchWatchTest, ASleepInTheMiddleOfAnyCallIsReportedWhileItLasts) {
  Atomic<int> returned{0};
  with_worker(
      [&](SwitchWatch& watch) {
        for (int i = 0; i < 100; ++i) {
          watch.arm();
          read_byte();
          EXPECT_NE(watch.state(), State::kBlocked) << "it runs again, and the switch in was not counted";
          watch.disarm();
          returned.store(i + 1);
        }
      },
      [&](SwitchWatch& watch, const ThreadProbe& probe) {
        for (int i = 0; i < 100; ++i) {
          ASSERT_TRUE(wait_blocked(watch, probe)) << i;
          EXPECT_EQ(returned.load(), i);
          EXPECT_TRUE(probe.asleep());
          write_byte();
          const auto until = patience();
          while (returned.load() == i && Clock::now() < until) platform::this_thread::yield();
        }
      });
}

TEST_F(SwitchWatchTest, OneArmingWakesAtMostFourTimes) {
  // Ten sleeps after one arm(): the ring's room ends the reports, not the watcher.
  Atomic<int> stage{0};
  with_worker(
      [&](SwitchWatch& watch) {
        watch.arm();
        for (int i = 0; i < 10; ++i) platform::this_thread::sleep_until(Clock::now() + microseconds(200));
        EXPECT_EQ(watch.state(), State::kUnknown) << "switches were dropped, so nobody can know from the records";
        stage.store(1);
        watch.arm();
        EXPECT_EQ(watch.state(), State::kRunning);
        watch.disarm();
        stage.store(2);
      },
      [&](SwitchWatch&, const ThreadProbe&) {
        int reports = 0;
        std::array<Event, 2> events;
        while (stage.load() < 2 || reports == 0) {
          if (!queue_.wait(events, Clock::now() + milliseconds(2)).timed_out) ++reports;
        }
        EXPECT_GE(reports, 1);
        EXPECT_LE(reports, 5) << "four, and one more if the second arming was preempted";
      });
}

TEST_F(SwitchWatchTest, NothingIsReportedWhileDisarmed) {
  Atomic<int> stage{0};
  with_worker(
      [&](SwitchWatch& watch) {
        watch.arm();
        watch.disarm();
        for (int i = 0; i < 10; ++i) platform::this_thread::sleep_until(Clock::now() + microseconds(100));
        stage.store(1);
      },
      [&](SwitchWatch&, const ThreadProbe&) {
        std::array<Event, 2> events;
        int reports = 0;
        while (stage.load() == 0) {
          if (!queue_.wait(events, Clock::now() + milliseconds(1)).timed_out) ++reports;
        }
        EXPECT_LE(reports, 1) << "at most a preemption between arm() and disarm()";
      });
}

TEST_F(SwitchWatchTest, APreemptedOrYieldingThreadIsNeverBlocked) {
  // Two rivals on the worker's CPU: each yield gives it up, and the slices end meanwhile.
  Atomic<int> stage{0};
  int looks = 0;
  with_worker(
      [&](SwitchWatch& watch) {
        const int cpu = platform::this_thread::current_cpu();
        ASSERT_TRUE(platform::this_thread::set_cpu(cpu).has_value());
        auto rival = Thread::create({.name = "rival", .cpu = cpu}, [&] {
          while (stage.load() == 0) {}
        });
        ASSERT_TRUE(rival.has_value());
        const auto until = Clock::now() + milliseconds(60);
        while (Clock::now() < until) {
          watch.arm();
          platform::this_thread::yield();
          const auto slice = Clock::now() + microseconds(300);
          while (Clock::now() < slice) {}
          EXPECT_NE(watch.state(), State::kBlocked);
        }
        watch.disarm();
        stage.store(1);
        rival->join();
        stage.store(2);
      },
      [&](SwitchWatch& watch, const ThreadProbe&) {
        std::array<Event, 2> events;
        while (stage.load() == 0) {
          static_cast<void>(queue_.wait(events, Clock::now() + milliseconds(1)));
          const State state = watch.state();
          if (stage.load() == 0) {
            EXPECT_NE(state, State::kBlocked);
            ++looks;
          }
        }
        EXPECT_GT(looks, 0);
      });
}

TEST_F(SwitchWatchTest, RearmingFromOutsideReportsTheNextSleepToo) {
  // The watched thread arms once; the watcher keeps it up over twenty sleeps.
  Atomic<int> naps{0};
  with_worker(
      [&](SwitchWatch& watch) {
        watch.arm();
        for (int i = 0; i < 20; ++i) {
          read_byte();
          naps.store(i + 1);
        }
      },
      [&](SwitchWatch& watch, const ThreadProbe& probe) {
        for (int i = 0; i < 20; ++i) {
          if (watch.rearm(probe) != State::kBlocked) { ASSERT_TRUE(wait_blocked(watch, probe)) << i; }
          ASSERT_LE(naps.load(), i);
          if (naps.load() < i) {  // it was about to sleep for the one before still
            --i;
            continue;
          }
          write_byte();
          const auto until = patience();
          while (naps.load() == i && Clock::now() < until) platform::this_thread::yield();
        }
      });
}

TEST_F(SwitchWatchTest, RearmingLeavesADisarmedWatchAlone) {
  auto watch = SwitchWatch::create();
  ASSERT_TRUE(watch.has_value());
  ASSERT_TRUE(queue_.add(*watch, 7).has_value());
  auto probe = ThreadProbe::open(platform::this_thread::id());
  ASSERT_TRUE(probe.has_value());
  watch->disarm();
  EXPECT_EQ(watch->rearm(*probe), State::kRunning);
  platform::this_thread::sleep_until(Clock::now() + microseconds(100));
  std::array<Event, 2> events;
  EXPECT_TRUE(queue_.wait(events, Clock::now()).timed_out);
  EXPECT_TRUE(queue_.remove(*watch).has_value());
}

TEST_F(SwitchWatchTest, ManyArmingsNeverLoseASleep) {
  // The ring goes round several times; each sleep must be seen by a fresh arm().
  Atomic<int> rounds{0};
  with_worker(
      [&](SwitchWatch& watch) {
        for (int i = 0; i < 1500; ++i) {
          watch.arm();
          read_byte();
          rounds.store(i + 1);
        }
      },
      [&](SwitchWatch& watch, const ThreadProbe& probe) {
        for (int i = 0; i < 1500; ++i) {
          ASSERT_TRUE(wait_blocked(watch, probe)) << i;
          write_byte();
          const auto until = patience();
          while (rounds.load() == i && Clock::now() < until) platform::this_thread::yield();
        }
      });
}

TEST_F(SwitchWatchTest, APageFaultThatWaitsForTheKernelIsASleepOrNotASwitchAtAll) {
  auto watch = SwitchWatch::create();
  ASSERT_TRUE(watch.has_value());
  void* memory = ::mmap(nullptr, 1U << 20U, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  watch->arm();
  auto* bytes = static_cast<volatile char*>(memory);
  for (std::size_t i = 0; i < (1U << 20U); i += 4096) bytes[i] = 1;
  EXPECT_NE(watch->state(), State::kBlocked) << "it runs";
  ::munmap(memory, 1U << 20U);
}

TEST_F(SwitchWatchTest, AForeignTokenIsRefused) {
  auto watch = SwitchWatch::create();
  ASSERT_TRUE(watch.has_value());
  EXPECT_EQ(queue_.add(*watch, EventQueue::kMaxToken + 1).error().code, Errc::kInvalid);
  EXPECT_FALSE(queue_.remove(*watch).has_value());
}

TEST(ThreadProbe, CountsTheCpuTimeOfItsThreadOnly) {
  auto probe = ThreadProbe::open(platform::this_thread::id());
  ASSERT_TRUE(probe.has_value()) << probe.error().message();
  const auto before = probe->cpu_time();
  platform::this_thread::sleep_until(Clock::now() + milliseconds(30));
  const auto slept = probe->cpu_time() - before;
  EXPECT_LT(slept, milliseconds(20));
  while (probe->cpu_time() - before < milliseconds(30)) {}
  EXPECT_FALSE(probe->asleep());
  EXPECT_GE(probe->queue_wait().count(), 0);
}

TEST(ThreadProbe, TellsASleeperAndWhere) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  auto thread = Thread::create({.name = "a) b ("}, [&] {
    char byte = 0;
    EXPECT_EQ(::read(ends[0], &byte, 1), 1);
  });
  ASSERT_TRUE(thread.has_value());
  auto probe = ThreadProbe::open(thread->id());
  ASSERT_TRUE(probe.has_value());
  const auto until = patience();
  while (!probe->asleep() && Clock::now() < until) platform::this_thread::yield();
  EXPECT_TRUE(probe->asleep());
  const std::string where = probe->where();
  EXPECT_TRUE(where.empty() || where.find("read") != std::string::npos) << where;
  ASSERT_EQ(::write(ends[1], "x", 1), 1);
  thread->join();
  const auto gone = patience();
  while (probe->asleep() && Clock::now() < gone) platform::this_thread::yield();
  EXPECT_FALSE(probe->asleep()) << "a thread that has ended";
  EXPECT_EQ(probe->where(), "");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(ThreadProbe, AThreadThatIsNotThereIsAnError) {
  auto probe = ThreadProbe::open(0x7ffffff0);
  ASSERT_FALSE(probe.has_value());
  EXPECT_EQ(probe.error().sys_errno, ENOENT);
}

}  // namespace
}  // namespace upci
