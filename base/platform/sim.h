// SPDX-License-Identifier: Apache-2.0
// The platform seam in simulation. The contract is in base/platform.h; do not include this directly.
//
// Every thread is a fiber of one OS thread. Each call below is a scheduling point, at which a seeded generator decides
// which fiber runs next, so that one seed is one interleaving. Time is simulated: it stands still while any fiber can run,
// and jumps to the earliest timer when none can. (While all that can run do nothing but relax() or yield(), each round
// takes a microsecond, so that bounded spin loops end.) The control of it all is in namespace sim, at the end.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/platform/sim_atomic.h"
#include "base/unique_fd.h"
#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::platform {

using Nanoseconds = std::chrono::nanoseconds;

/// The simulated clock. Each run begins at the same time; outside of a run it stands still.
struct Clock {
  using duration = Nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<Clock, Nanoseconds>;
  static constexpr bool is_steady = true;
  static time_point now() noexcept;
};
using TimePoint = Clock::time_point;
/// As the clock has it: a run depends on its seed alone.
inline Nanoseconds time_of_day() noexcept { return Clock::now().time_since_epoch(); }
inline constexpr TimePoint kNever = TimePoint::max();

inline void fence(std::memory_order) noexcept { sim::detail::point(); }
void relax() noexcept;
inline void prefetch(const void*) noexcept {}
inline void prefetch_for_write(const void*) noexcept {}

/// Locking it twice, and unlocking or destroying it while another fiber holds it, ends the run as a failure.
class Mutex {
 public:
  constexpr Mutex() noexcept = default;
  ~Mutex();
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  void lock() noexcept;
  bool try_lock() noexcept;
  void unlock() noexcept;

 private:
  int owner_ = 0;  // a fiber's number, or 0
};

bool wait_word(const Atomic<std::uint32_t>& word, std::uint32_t expected, TimePoint until = kNever) noexcept;
void wake_word(const Atomic<std::uint32_t>* word, int count) noexcept;

struct Event {
  std::uint64_t token = 0;
};

struct EventWait {
  std::size_t events = 0;
  bool notified = false;
  bool alarm = false;
  bool timed_out = false;
};

namespace sim::detail {
struct QueueState;
struct QueueStateDeleter {
  void operator()(QueueState* state) const noexcept;
};
}  // namespace sim::detail

class SwitchWatch;  // base/platform/sim_watch.h

/// Takes real descriptors. They are looked at when fd_signalled() is called, when a fiber begins to wait, and before time
/// moves on, so that a descriptor that something else makes readable is seen as well.
class EventQueue {
 public:
  static Result<EventQueue> create();
  EventQueue(EventQueue&&) noexcept = default;
  EventQueue& operator=(EventQueue&&) noexcept = default;

  static constexpr std::uint64_t kMaxToken = ~std::uint64_t{0} - 2;
  Result<void> add(int fd, std::uint64_t token);
  Result<void> remove(int fd);
  Result<void> add(const SwitchWatch& watch, std::uint64_t token);
  Result<void> remove(const SwitchWatch& watch);
  void notify() noexcept;
  void set_alarm(TimePoint when) noexcept;
  EventWait wait(std::span<Event> events, TimePoint until = kNever) noexcept;

 private:
  using State = std::unique_ptr<sim::detail::QueueState, sim::detail::QueueStateDeleter>;
  explicit EventQueue(State state) noexcept : state_(std::move(state)) {}
  State state_;
};

using ThreadId = int;  // the fiber's number: 1 is the main one

class Thread {
 public:
  struct Options {
    std::string name;
    int cpu = -1;
  };
  static Result<Thread> create(Options options, std::function<void()> body);

  Thread() noexcept = default;
  Thread(Thread&& other) noexcept;
  Thread& operator=(Thread&& other) noexcept;
  ~Thread();

  bool joinable() const noexcept { return joinable_; }
  ThreadId id() const noexcept { return id_; }
  void join();
  void detach();

 private:
  ThreadId id_ = 0;
  std::uint64_t run_ = 0;  // the run that it belongs to: one that has ended has no threads left
  bool joinable_ = false;
};

namespace this_thread {
ThreadId id() noexcept;
int current_cpu() noexcept;
void yield() noexcept;
void sleep_until(TimePoint when) noexcept;
void set_name(const std::string& name) noexcept;
Result<void> set_cpu(int cpu);
Result<void> set_cpus(std::span<const int> cpus);
bool set_nice(int nice) noexcept;  // the seeded scheduler knows no priorities of the system's: always true
}  // namespace this_thread

namespace sim::detail {
std::size_t new_slot_index() noexcept;
void*& slot(std::size_t index) noexcept;
}  // namespace sim::detail

template <class Tag>
void*& thread_slot() noexcept {
  static const std::size_t index = sim::detail::new_slot_index();
  return sim::detail::slot(index);
}

/// To be called after a descriptor that may be in an EventQueue was made readable. A scheduling point.
void fd_signalled() noexcept;

std::vector<int> online_cpus();

// What tests use to run and steer a simulation.
namespace sim {

/// Decides in the generator's place: for tests that go through all schedules of a small scenario.
class Chooser {
 public:
  /// One of `options` alternatives (at least 2), counted from 0. At a point where the current fiber could go on, 0 lets it;
  /// the others are fibers in the order of their numbers.
  virtual std::uint32_t choose(std::uint32_t options) noexcept = 0;

 protected:
  ~Chooser() = default;
};

struct Options {
  std::uint64_t seed = 1;               // decides everything: the same seed gives the same run
  int cpus = 4;                         // CPUs 0..cpus-1, all online at first
  std::uint64_t max_steps = 5'000'000;  // scheduling points until the run counts as a livelock
  bool stacks = false;                  // a failure's text has each fiber's stack (takes a good part of a second)
  bool spurious = true;                 // in some seeds wait_word() returns early and weak exchanges fail now and then
  Chooser* chooser = nullptr;           // decides instead of the seed; nothing is spurious then
  unsigned preemptions = 2;             // with a chooser: how often a fiber that could go on may be made to wait
};

enum class End : std::uint8_t {
  kFinished,   // every fiber has returned
  kDeadlock,   // no fiber can run, and none waits for a time
  kStepLimit,  // max_steps is reached: a livelock, or a test that is too long
  kException,  // a fiber's body ended by an exception
  kFailed,     // sim::fail_run(), or a misuse of a mutex or a thread
};

struct Outcome {
  End end = End::kFinished;
  std::string text;         // when it did not finish: why, and what each fiber waits for
  std::uint64_t steps = 0;  // scheduling points passed
  std::uint64_t trace = 0;  // a digest of all decisions
  Nanoseconds elapsed{};    // simulated
  bool bounded = false;     // with a chooser: Options::preemptions kept it from being asked

  bool ok() const noexcept { return end == End::kFinished; }
};

/// Runs `main_body` as fiber 1, and all that it starts, until every fiber has returned or the run fails. After a failure
/// the fibers are left where they are: what they hold is not released.
Outcome run(const Options& options, std::function<void()> main_body);

/// Whether the caller is a fiber of a run.
bool running() noexcept;
std::uint64_t current_seed() noexcept;
std::uint64_t steps() noexcept;
/// A number below `below` from the run's generator: for choices that the test itself makes. A chooser is asked for those
/// of up to 16 alternatives.
std::uint64_t random(std::uint64_t below) noexcept;
/// Takes a CPU offline or brings it back. Fibers that are pinned to it run elsewhere meanwhile, as the kernel does it.
void set_online(int cpu, bool online) noexcept;
/// While set, Thread::create() fails with EAGAIN.
void refuse_threads(bool refuse) noexcept;
/// The next `count` calls of Thread::create() fail with EAGAIN.
void fail_threads(unsigned count) noexcept;
/// The next `count` calls of wake_word() and EventQueue::notify() do nothing.
void lose_wakeups(unsigned count) noexcept;
/// What EventQueue::set_alarm() is given from now on goes off so much later.
void delay_alarms(Nanoseconds by) noexcept;
/// While set, SwitchWatch::create() and its self_test() fail with EACCES.
void refuse_switch_watch(bool refuse) noexcept;
/// The calling fiber computes for so long: the clock moves on, timers go off and others run, as on other CPUs, but only
/// this fiber's CPU time grows. It is not asleep meanwhile, and not switched out.
void consume(Nanoseconds span) noexcept;
/// Ends the run as a failure, from whatever fiber calls it.
[[noreturn]] void fail_run(std::string text) noexcept;
/// One line for each fiber that has not returned: its number, its name and what it waits for.
std::string describe_fibers();
/// Calls `function(argument)` on the stack of another fiber, at the place where that waits to go on; it must not use the
/// platform. Returns false when there is no such fiber any more; does nothing for one that has not begun.
bool run_on_fiber(ThreadId fiber, void (*function)(void*), void* argument) noexcept;

}  // namespace sim

}  // namespace upci::inline UPCI_VARIANT::platform

#include "base/platform/sim_watch.h"  // IWYU pragma: export
