// SPDX-License-Identifier: Apache-2.0
// Private. A closure that a worker runs for a caller who does not wait for ever.
#pragma once

#include <cstdint>
#include <memory>

#include "base/platform.h"
#include "workqueue/engine.h"

namespace upci::inline UPCI_VARIANT::device {

/// Rung whenever something happened to a job; one caller can so wait for many. Shared by the jobs and their callers.
class Bell {
 public:
  std::uint32_t rings() const noexcept { return rings_.load(std::memory_order_acquire); }
  void ring() noexcept;
  /// Sleeps until the bell was rung since `seen` was read, at the latest until `until`. May return early.
  void wait(std::uint32_t seen, platform::TimePoint until) noexcept;

 private:
  platform::Atomic<std::uint32_t> rings_{0};  // atomic
};

/// Held by shared_ptr: the caller has one reference and, while it is queued or runs, the job itself has one. So a caller who
/// gives up can go away, and whoever is last frees what the job owns.
///
///   kQueued -> kStarting -> kRunning -> kJudged    the usual way: body() has a result and nobody gave up before
///                                    -> kGivenUp   the caller took it back; body() must throw its result away
///           -> kCancelled                          it will not run in a worker
///
/// Fields: W written by the worker before it moves phase_ on (release), read by the caller who saw that phase (acquire).
class Job : public std::enable_shared_from_this<Job> {
 public:
  enum class Phase : std::uint32_t { kQueued, kStarting, kRunning, kJudged, kGivenUp, kCancelled };

  Job(Engine& engine, int cpu, std::shared_ptr<Bell> bell) noexcept
      : engine_(engine), cpu_(cpu), bell_(std::move(bell)), queued_at_(platform::Clock::now()) {}
  virtual ~Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// Caller. False when the engine has no such CPU; nothing has happened then.
  bool queue() noexcept;
  /// Caller: runs it on the calling thread instead. After cancel() or without queue().
  void run_here();
  /// Caller. True when it had not begun and never will.
  bool cancel() noexcept;
  /// Caller. True when it runs and has no result yet: from now on its result goes to nobody.
  bool give_up() noexcept;
  /// Caller, after give_up(): the worker no longer counts as running, so that the CPU's other items start.
  void write_off_worker() noexcept { engine_.write_off(work_); }

  Phase phase() const noexcept { return phase_.load(std::memory_order_acquire); }
  /// body() has returned; all that it owned on the worker's stack is gone.
  bool returned() const noexcept { return returned_.load(std::memory_order_acquire); }
  platform::TimePoint queued_at() const noexcept { return queued_at_; }
  platform::TimePoint started_at() const noexcept { return started_at_; }
  platform::ThreadId thread() const noexcept { return thread_; }
  Engine& engine() const noexcept { return engine_; }
  /// The engine's CPU that it was given to, or -1 when it runs on its caller's thread.
  int cpu() const noexcept { return cpu_; }

 protected:
  virtual void body() = 0;
  /// body(): the result is complete. False when the caller has given up.
  bool claim() noexcept;

 private:
  void on_worker(Work& work);
  void run();

  Engine& engine_;
  const int cpu_;
  const std::shared_ptr<Bell> bell_;
  const platform::TimePoint queued_at_;
  platform::TimePoint started_at_{};               // W
  platform::ThreadId thread_{};                    // W
  platform::Atomic<Phase> phase_{Phase::kQueued};  // atomic
  platform::Atomic<bool> returned_{false};         // atomic
  std::shared_ptr<Job> self_;                      // whoever holds PENDING of work_
  Work work_{this, &Job::on_worker};               // its own rules
};

/// A job that was given up and may come back. Not owned: when its worker is done with it, what it owns must go.
using Stray = std::weak_ptr<Job>;
inline bool is_back(const Stray& stray) noexcept {
  const std::shared_ptr<Job> job = stray.lock();
  return job == nullptr || job->returned();
}

}  // namespace upci::inline UPCI_VARIANT::device
