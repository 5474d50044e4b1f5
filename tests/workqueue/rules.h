// SPDX-License-Identifier: Apache-2.0
// What the tests of the engine's rules share. Each test file is built twice: on real threads, where a body is repeated,
// and on the simulated scheduler, where it runs under many seeds.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/event_fd.h"
#include "base/log.h"
#include "base/platform.h"
#include "base/wait.h"
#include "tests/sanitized.h"
#include "workqueue/engine.h"
#include "workqueue/workqueue.h"

#if defined(UPCI_SIM)
#include "tests/sim.h"
#endif

namespace upci::inline UPCI_VARIANT::test {

using namespace std::chrono_literals;

#if defined(UPCI_SANITIZED)
inline constexpr unsigned kMostSeeds = 100;  // each takes ten times as long
inline constexpr unsigned kMostRounds = 8;
#else
inline constexpr unsigned kMostSeeds = 100'000;
inline constexpr unsigned kMostRounds = 100'000;
#endif

/// Runs the body many times: 1,000 seeds in simulation (or fewer, where each takes long); `rounds` times on real threads.
/// Fewer under sanitizers.
template <class F>
void under_many_schedules(F body, unsigned rounds = 30, unsigned seeds = 1000) {
  rounds = std::min(rounds, kMostRounds);
  seeds = std::min(seeds, kMostSeeds);
#if defined(UPCI_SIM)
  (void)rounds;
  for_each_seed(seeds, body);
#else
  (void)seeds;
  for (unsigned round = 0; round < rounds && !testing::Test::HasFailure(); round++) body();
#endif
}

/// Two nodes with two CPUs each, whatever the machine has.
inline const Topology& small_topology() {
  static const Topology topology = *Topology::synthetic("numa:2 core:2");
  return topology;
}

/// Without a hog threshold, unless a test wants one: on a busy machine a test's short spinning takes more than 10 ms.
/// What a test provokes on purpose is not printed. A work that goes too early is never on purpose here.
inline Engine::Options engine_options() {
  const auto sink = [](const Report& report) { EXPECT_NE(report.kind, Report::Kind::kLifetime) << report.to_text(); };
  return {.topology = small_topology(), .hog_threshold = 0s, .report = sink};
}

/// The overseer looks around once in 50 seconds only: a wake-up that is lost is not made good by its next look.
inline Engine::Options overseen_rarely() {
  Engine::Options options = engine_options();
  options.hog_threshold = options.mayday = options.watchdog = 100s;
  return options;
}

/// Demands that the scope ends within 10 seconds, real or simulated: before the next look of such an overseer.
class Prompt {
 public:
  Prompt() = default;
  ~Prompt() { EXPECT_LT(platform::Clock::now() - began_, 10s) << "nobody was woken for an item"; }
  Prompt(const Prompt&) = delete;
  Prompt& operator=(const Prompt&) = delete;

 private:
  const platform::TimePoint began_ = platform::Clock::now();
};

/// Keeps what an engine reports.
class Reports {
 public:
  ReportSink sink() {
    return [this](const Report& report) {
      std::lock_guard guard(lock_);
      reports_.push_back(report);
    };
  }
  std::size_t count(Report::Kind kind) const {
    std::lock_guard guard(lock_);
    return static_cast<std::size_t>(std::ranges::count(reports_, kind, &Report::kind));
  }
  /// All of this kind, the oldest first.
  std::vector<Report> all(Report::Kind kind) const {
    std::lock_guard guard(lock_);
    std::vector<Report> found;
    std::ranges::copy_if(reports_, std::back_inserter(found), [kind](const Report& r) { return r.kind == kind; });
    return found;
  }
  /// The text of the first of this kind; empty when there is none.
  std::string first(Report::Kind kind) const { return first_report(kind).text; }
  Report first_report(Report::Kind kind) const {
    std::lock_guard guard(lock_);
    const auto found = std::ranges::find(reports_, kind, &Report::kind);
    return found != reports_.end() ? *found : Report();
  }

 private:
  mutable platform::Mutex lock_;
  std::vector<Report> reports_;  // lock_
};

inline std::unique_ptr<Engine> make_engine(Engine::Options options = engine_options()) {
  auto engine = Engine::create(std::move(options));
  EXPECT_TRUE(engine.has_value()) << engine.error().message();
  return engine ? std::move(*engine) : nullptr;
}

/// Starts `count` threads, each with its number, and joins them.
template <class F>
void in_threads(unsigned count, F body) {
  std::vector<platform::Thread> threads;
  for (unsigned i = 0; i < count; i++) {
    auto thread = platform::Thread::create({.name = "racer"}, [&body, i] { body(i); });
    ASSERT_TRUE(thread.has_value()) << thread.error().message();
    threads.push_back(std::move(*thread));
  }
  for (platform::Thread& thread : threads) thread.join();
}

/// Waits in real or simulated time until the condition holds; false after a generous while.
template <class F>
bool eventually(F condition) {
  const Deadline deadline = Deadline::after(20s);
  while (!condition()) {
    if (deadline.expired()) return false;
    sleep_for(50us);
  }
  return true;
}

/// Keeps warnings that a test provokes on purpose, thousands of times, out of its output.
class QuietLog {
 public:
  QuietLog() : level_(log::level()) { log::set_level(log::Level::kOff); }
  ~QuietLog() { log::set_level(level_); }
  QuietLog(const QuietLog&) = delete;
  QuietLog& operator=(const QuietLog&) = delete;

 private:
  log::Level level_;
};

/// An item that keeps its CPU without sleeping, until it is let go: what is queued behind it stays pending.
class Occupied {
 public:
  Occupied(Engine& engine, int cpu) : engine_(engine) {
    engine_.queue_work_on(cpu, engine_.system_wq(), work_);
    EXPECT_TRUE(eventually([this] { return started_.load() != 0; }));
  }
  ~Occupied() {
    release();
    engine_.flush_work(work_);
  }
  void release() { released_.store(1); }

 private:
  void spin(Work&) {
    started_.store(1);
    while (released_.load() == 0) platform::this_thread::yield();
  }
  Engine& engine_;
  platform::Atomic<int> started_{0};
  platform::Atomic<int> released_{0};
  Work work_{this, &Occupied::spin};
};

/// A work that calls whatever it was given. All of them are one function to the engine.
struct Task {
  explicit Task(std::function<void()> what) : body(std::move(what)) {}
  void run(Work&) {
    body();
    runs.fetch_add(1);
  }
  const std::function<void()> body;
  platform::Atomic<int> runs{0};
  Work work{this, &Task::run};
};
using Tasks = std::vector<std::unique_ptr<Task>>;

/// Items that all wait at one gate, and how many of them are there or were.
class Gate {
 public:
  void pass() {
    const int now = inside_.fetch_add(1) + 1;
    int most = most_.load();
    while (now > most && !most_.compare_exchange_weak(most, now)) {}
    started_.fetch_add(1);
    open_.wait();
    inside_.fetch_sub(1);
  }
  void open() { open_.complete(); }
  bool is_open() const { return open_.is_complete(); }
  int started() const { return started_.load(); }
  int inside() const { return inside_.load(); }
  int most() const { return most_.load(); }
  Tasks tasks(int count) {
    Tasks made;
    for (int i = 0; i < count; i++) made.push_back(std::make_unique<Task>([this] { pass(); }));
    return made;
  }

 private:
  Completion open_;
  platform::Atomic<int> started_{0};
  platform::Atomic<int> inside_{0};
  platform::Atomic<int> most_{0};
};

/// Keeps the order in which items came by.
class Order {
 public:
  void add(int number) {
    std::lock_guard guard(lock_);
    numbers_.push_back(number);
  }
  std::vector<int> numbers() const {
    std::lock_guard guard(lock_);
    return numbers_;
  }

 private:
  mutable platform::Mutex lock_;
  std::vector<int> numbers_;  // lock_
};

/// 0, 1, ... count-1.
inline std::vector<int> ascending(int count) {
  std::vector<int> numbers;
  for (int i = 0; i < count; i++) numbers.push_back(i);
  return numbers;
}

inline WorkqueuePtr make_queue(Engine& engine, WqFlags flags, int max_active = 0, const std::string& name = "test") {
  auto queue = engine.alloc_workqueue(name, flags, max_active);
  EXPECT_TRUE(queue.has_value()) << (queue ? "" : queue.error().message());
  return queue ? std::move(*queue) : nullptr;
}

inline WorkqueuePtr make_ordered(Engine& engine, WqFlags flags = 0) {
  auto queue = engine.alloc_ordered_workqueue("ordered", flags);
  EXPECT_TRUE(queue.has_value()) << (queue ? "" : queue.error().message());
  return queue ? std::move(*queue) : nullptr;
}

/// Counts its runs.
struct Counter {
  void run(Work&) { runs.fetch_add(1); }
  platform::Atomic<int> runs{0};
  Work work{this, &Counter::run};
};

}  // namespace upci::inline UPCI_VARIANT::test
