// SPDX-License-Identifier: Apache-2.0
// The scheduler of the simulation: who runs, who waits for what, and what time it is. Used by sim*.cc only.
//
// All of it belongs to the one OS thread that called sim::run(); nothing needs protection.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/platform/sim.h"
#include "base/platform/sim_fiber.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT::platform::sim::detail {

enum class WaitKind : std::uint8_t { kNone, kSleep, kWord, kMutex, kQueue, kJoin, kCompute };

inline constexpr std::size_t kMaxSlots = 64;
inline constexpr TimePoint kStart{std::chrono::seconds(1000)};  // of every run

struct WatchState;

struct Fiber {
  int id = 0;  // counts from 1 in each run
  std::string name;
  std::function<void()> body;
  FiberContext context;
  FiberStack stack;
  bool started = false;
  bool finished = false;

  std::size_t place = 0;                 // its index in runnable_ or blocked_
  WaitKind waits_for = WaitKind::kNone;  // kNone: it is in runnable_
  const void* object = nullptr;          // the word, mutex, queue or fiber waited for
  TimePoint until = kNever;
  bool timed_out = false;  // why it was last woken

  bool spinning = false;       // has yielded since the clock last moved
  std::uint64_t priority = 0;  // for runs by priority
  int pinned = -1;
  std::vector<int> allowed;  // when not pinned: the CPUs that it may be on; empty: all
  int cpu = 0;
  std::array<void*, kMaxSlots> slots{};

  WatchState* watch = nullptr;
  bool switched_out = false;  // as its watch sees it
  Nanoseconds cpu_time{};     // without what it consumes right now
  TimePoint computing_since;  // while it waits for kCompute

  void (*visit)(void*) = nullptr;  // run_on_fiber()
  void* visit_argument = nullptr;
  FiberContext* visitor = nullptr;
};

/// An EventQueue. The descriptors lie in a real epoll descriptor, which knows best what an edge is.
struct QueueState {
  struct Source {
    int fd = -1;
    std::uint64_t token = 0;
    const WatchState* watch = nullptr;  // then fd is -1
  };
  UniqueFd epoll;  // made when the first descriptor is added
  std::vector<Source> sources;
  std::vector<Source> watches;
  std::vector<Source> ready;  // events that no waiter has taken yet, oldest first
  bool notified = false;
  TimePoint alarm = kNever;
  bool alarm_told = false;  // a waiter was woken for it

  void forget(const WatchState& watch) noexcept;
};

/// A SwitchWatch: what the kernel's ring would hold for its fiber.
struct WatchState {
  int fiber = 0;
  std::uint64_t run = 0;
  std::uint32_t ins = 0;  // switches in
  bool dropped = false;   // a record found no room since the last one that did
  platform::detail::SwitchWindow window{.armed = false};
  platform::detail::SwitchRecords records{};
};

/// splitmix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }
  /// Below 2^32 without a division.
  std::uint64_t below(std::uint64_t bound) noexcept {
    if (bound >> 32U != 0) return next() % bound;
    return ((next() >> 32U) * bound) >> 32U;
  }

 private:
  std::uint64_t state_;
};

class Scheduler {
 public:
  explicit Scheduler(const Options& options);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  Outcome run(std::function<void()> main_body);

  /// A scheduling point.
  void step() noexcept {
    ++steps_;
    if (steps_ >= attention_at_) attend();
    if (preempt_below_ != 0 && static_cast<std::uint32_t>(random_.next() >> 32U) < preempt_below_) preempt();
  }
  bool spurious() noexcept { return spurious_ && random_.below(16) == 0; }

  /// Stops the current fiber until woken or until `until`. Returns false when the time came first.
  bool block(WaitKind kind, const void* object, TimePoint until) noexcept;
  /// Wakes up to `count` fibers, picked at random, that wait for `object`.
  void wake(WaitKind kind, const void* object, int count) noexcept;
  /// Lets all others that can run go first.
  void yield() noexcept;
  Fiber& spawn(Thread::Options options, std::function<void()> body);
  [[noreturn]] void fail(End end, std::string text) noexcept;

  /// Takes the events of the queue's descriptors over into `ready`, and wakes a waiter for each.
  bool poll(QueueState& queue) noexcept;
  void poll_all() noexcept;
  void wake_for_alarm(QueueState& queue) noexcept;

  /// See sim::consume().
  void consume(Nanoseconds span) noexcept;

  bool visit(int id, void (*function)(void*), void* argument) noexcept;
  std::string describe() const;

  Fiber& current() noexcept { return *current_; }
  Fiber* find(int id) noexcept;
  TimePoint now() const noexcept { return now_; }
  std::uint64_t random_for_test(std::uint64_t below) noexcept;
  std::uint64_t steps() const noexcept { return steps_; }
  std::uint64_t seed() const noexcept { return options_.seed; }
  std::uint64_t run_number() const noexcept { return run_number_; }
  bool cpu_online(int cpu) const noexcept;
  std::vector<int> online() const;
  void set_online(int cpu, bool online) noexcept;
  int current_cpu() noexcept;
  bool refuses_threads = false;
  unsigned failing_threads = 0;  // so many calls more
  unsigned lost_wakeups = 0;     // likewise
  Nanoseconds alarm_delay{};
  bool refuses_watches = false;

 private:
  static void fiber_entry();
  void end_current() noexcept;
  void attend() noexcept;
  void preempt() noexcept;
  void plan_change() noexcept;
  bool by_priority() const noexcept { return policy_ == Policy::kPriorities; }
  bool exploring() const noexcept { return policy_ == Policy::kExplore; }
  std::size_t pick(std::size_t options) noexcept;
  Fiber* pick(std::vector<Fiber*>& candidates) noexcept;
  void explore_step() noexcept;
  Fiber* next_spinner() noexcept;
  Fiber* choose(bool spinners_too) noexcept;
  Fiber* next_to_run() noexcept;
  void switch_to(Fiber* next) noexcept;
  static void go(Fiber& from, FiberContext& to) noexcept;
  static void visit_from(FiberContext& visitor, Fiber& fiber, void (*function)(void*), void* argument) noexcept;
  void record_switch(WatchState& watch, SwitchState what) noexcept;
  void switched_out(Fiber& fiber, SwitchState why) noexcept;
  void switched_in(Fiber& fiber) noexcept;
  std::string where() const;
  std::string stacks();
  bool advance_to_earliest() noexcept;
  void expire() noexcept;
  void make_runnable(Fiber& fiber, bool timed_out) noexcept;
  void insert(std::vector<Fiber*>& list, Fiber& fiber);
  static void erase(std::vector<Fiber*>& list, Fiber& fiber) noexcept;
  bool anyone_waits(const QueueState& queue) const noexcept;

  const Options options_;
  const std::uint64_t run_number_;
  Random random_;
  std::uint64_t steps_ = 0;
  std::uint64_t trace_ = 0;
  std::uint64_t attention_at_ = 0;  // the step at which attend() must look: the limit, or next_change_
  // How this seed schedules. kUniform: at each point with one probability. kBursts: after runs whose lengths are spread
  // over three orders of magnitude, which finds what needs a long pause at one place. kPriorities: always the most
  // important one; at random points the current one becomes the least important (after Burckhardt et al., "A Randomized
  // Scheduler with Probabilistic Guarantees of Finding Bugs").
  // kExplore: the options' chooser decides at each step.
  enum class Policy : std::uint8_t { kUniform, kBursts, kPriorities, kExplore };
  Policy policy_ = Policy::kUniform;
  std::uint32_t preempt_below_ = 0;   // kUniform: the probability, of 2^32; otherwise 0
  std::uint64_t change_horizon_ = 0;  // kPriorities: changes are at most this far apart
  std::uint64_t next_change_ = ~std::uint64_t{0};
  std::uint64_t lowest_priority_ = std::uint64_t{1} << 62U;
  bool spurious_ = false;
  unsigned preemptions_ = 0;  // kExplore: so far

  TimePoint now_;
  std::vector<std::unique_ptr<Fiber>> fibers_;  // by number; kept until the end
  std::vector<Fiber*> runnable_;                // the current one is among them
  std::vector<Fiber*> blocked_;
  std::vector<Fiber*> scratch_;
  std::size_t alive_ = 0;
  Fiber* current_ = nullptr;
  Fiber* ended_ = nullptr;  // its stack goes back to the pool after the switch away from it
  FiberContext outside_;
  std::vector<bool> cpu_online_;
  Outcome outcome_;
};

// describe(), where() and stacks() are in sim_report.cc.

/// Counts down; true as long as there was something left.
inline bool take_one(unsigned& left) noexcept {
  if (left == 0) return false;
  --left;
  return true;
}

/// Every EventQueue that exists; they may outlive a run.
std::vector<QueueState*>& queues();

}  // namespace upci::inline UPCI_VARIANT::platform::sim::detail
