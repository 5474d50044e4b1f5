// SPDX-License-Identifier: Apache-2.0
// SwitchWatch::self_test(): is what the kernel records what the pools rely on?
#include <array>
#include <chrono>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::platform {
namespace {

constexpr std::uint64_t kToken = 1;
constexpr int kYields = 50;
constexpr int kSwitches = 3;  // of those yields that gave the CPU up: enough, since each may take a time slice
constexpr std::chrono::seconds kPatience{2};
constexpr std::chrono::milliseconds kNap{10};

struct Trial {
  EventQueue queue;
  Result<SwitchWatch> watch = fail(Errc::kState, "the watch is not there yet");
  Atomic<std::uint32_t> stage{0};  // 1: the watch is there and its thread is about to sleep, 2: it may go on
  Atomic<std::uint32_t> done{0};   // the yielding is over
  bool yield_slept = false;        // told by the probe thread before stage 1
  bool woke_as_blocked = false;    // told by it before it ends
};

void move_on(Atomic<std::uint32_t>& word, std::uint32_t to) {
  word.store(to, std::memory_order_release);
  wake_word(&word, 2);
}

}  // namespace

Result<void> SwitchWatch::self_test() {
  UPCI_TRY_ASSIGN(EventQueue queue, EventQueue::create());
  Trial trial{.queue = std::move(queue)};
  const int cpu = this_thread::current_cpu();
  // Both on one CPU, so that a yield really gives it up.
  UPCI_TRY_ASSIGN(Thread rival, Thread::create({.name = "upci-selftest", .cpu = cpu}, [&trial] {
                    while (trial.done.load(std::memory_order_acquire) == 0) this_thread::yield();
                  }));
  Result<Thread> probe = Thread::create({.name = "upci-selftest", .cpu = cpu}, [&trial] {
    trial.watch = SwitchWatch::create();
    if (trial.watch) {
      for (int i = 0, switches = 0; i < kYields && switches < kSwitches; ++i) {
        trial.watch->arm();
        this_thread::yield();
        trial.yield_slept |= trial.watch->slept_since_armed();
        if (trial.watch->state() != State::kRunning) ++switches;
      }
      trial.watch->disarm();
    }
    move_on(trial.done, 1);
    if (!trial.watch) return move_on(trial.stage, 1);
    if (Result<void> added = trial.queue.add(*trial.watch, kToken); !added)
      trial.watch = std::unexpected(std::move(added.error()));
    if (!trial.watch) return move_on(trial.stage, 1);
    move_on(trial.stage, 1);
    // Again and again: a preemption just before it sleeps would be what is reported.
    while (trial.stage.load(std::memory_order_acquire) == 1) {
      trial.watch->arm();
      wait_word(trial.stage, 1, Clock::now() + kNap);
    }
    trial.woke_as_blocked = trial.watch->state() == State::kBlocked;
    trial.watch->disarm();
  });
  if (!probe) move_on(trial.done, 1);
  rival.join();
  if (!probe) return std::unexpected(std::move(probe.error()));

  while (trial.stage.load(std::memory_order_acquire) == 0) wait_word(trial.stage, 0);
  bool seen = false;
  if (trial.watch) {
    const TimePoint until = Clock::now() + kPatience;
    std::array<Event, 2> events;
    while (!seen && !trial.queue.wait(events, until).timed_out) seen = trial.watch->state() == State::kBlocked;
  }
  move_on(trial.stage, 2);
  probe->join();
  if (!trial.watch) return std::unexpected(std::move(trial.watch.error()));
  static_cast<void>(trial.queue.remove(*trial.watch));
  if (!seen) return fail(Errc::kSystem, "the kernel did not report a sleeping thread within 2 s");
  if (trial.yield_slept) return fail(Errc::kSystem, "the kernel reports a thread that yields as one that sleeps");
  if (trial.woke_as_blocked) return fail(Errc::kSystem, "the kernel does not count when a thread runs again");
  return {};
}

}  // namespace upci::inline UPCI_VARIANT::platform
