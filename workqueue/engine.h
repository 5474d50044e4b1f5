// SPDX-License-Identifier: Apache-2.0
// The engine: per-CPU worker pools, their system workqueues and clock. The kernel's workqueue as a library of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "workqueue/delayed_work.h"
#include "workqueue/event_source.h"
#include "workqueue/topology.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;
class Workqueue;

/// Counters of one CPU's pool. Each is a snapshot; they only grow.
struct PoolStats {
  std::uint64_t executed = 0;     // items whose function was called
  std::uint64_t wakeups = 0;      // times a worker came out of its idle wait
  std::uint64_t events = 0;       // calls of event sources
  std::uint64_t workers = 0;      // workers created
  std::uint64_t cm_wakeups = 0;   // workers woken because a running one blocked
  std::uint64_t written_off = 0;  // workers given up by a deadline
  std::uint64_t displaced = 0;    // times a worker took up work on another CPU, since its own was offline
};

/// Owns pools and system workqueues. Any number of engines can live in one process. All members are thread-safe unless said.
class Engine {
 public:
  struct Options {
    Topology topology;
    std::chrono::nanoseconds teardown = std::chrono::seconds(5);  // how long ~Engine waits for items that still run
  };
  static constexpr int kAnyCpu = -1;  // WORK_CPU_UNBOUND: the caller's CPU

  /// Errors: kInvalid (empty topology), kSystem (no first worker could be created).
  static Result<std::unique_ptr<Engine>> create(Options options);
  /// On this machine's own topology.
  static Result<std::unique_ptr<Engine>> create();
  /// Waits for what runs, at most Options::teardown; drops what is pending. Work items and event sources of callers must
  /// have been cancelled or removed before. Not from a worker of this engine.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Topology& topology() const noexcept;

  // The system workqueues, by the kernel's names.
  Workqueue& system_wq() noexcept;          // "events"
  Workqueue& system_highpri_wq() noexcept;  // "events_highpri"
  Workqueue& system_long_wq() noexcept;     // "events_long"

  // --- queueing; any context, never blocks, never allocates ---
  /// Queues on the caller's CPU when it is a worker of this engine, else on a housekeeping CPU. Returns true exactly when
  /// this call took PENDING and the work is not disabled. Kernel: queue_work.
  bool queue_work(Workqueue& wq, Work& work) noexcept { return queue_work_on(kAnyCpu, wq, work); }
  /// Queues on the CPU given; false also when there is no such CPU. Kernel: queue_work_on.
  bool queue_work_on(int cpu, Workqueue& wq, Work& work) noexcept;
  /// Queues on some CPU of the node, or on any CPU when the node has none. Kernel: queue_work_node.
  bool queue_work_node(int node, Workqueue& wq, Work& work) noexcept;
  bool schedule_work(Work& work) noexcept { return queue_work(system_wq(), work); }
  /// Kernel: queue_delayed_work(_on). A delay of 0 or less queues at once.
  bool queue_delayed_work(Workqueue& wq, DelayedWork& work, std::chrono::nanoseconds delay) noexcept {
    return queue_delayed_work_on(kAnyCpu, wq, work, delay);
  }
  bool queue_delayed_work_on(int cpu, Workqueue& wq, DelayedWork& work, std::chrono::nanoseconds delay) noexcept;

  // --- cancelling; any context, does not wait ---
  /// Takes back a pending work. True when it was pending. Kernel: cancel_work.
  bool cancel_work(Work& work) noexcept;
  /// The same, with its timer. Kernel: cancel_delayed_work.
  bool cancel_delayed_work(DelayedWork& work) noexcept;
  /// Raises the disable depth and takes back a pending work. True when it was pending. Kernel: disable_work.
  bool disable_work(Work& work) noexcept;
  bool disable_delayed_work(DelayedWork& work) noexcept;
  /// Lowers the disable depth. True when it reached 0. An unmatched call warns. Kernel: enable_work.
  bool enable_work(Work& work) noexcept;
  bool enable_delayed_work(DelayedWork& work) noexcept;

  // --- waiting; not from a top half; from a worker only for other works ---
  /// Waits for the last queueing and its run. False when the work was idle. Kernel: flush_work.
  bool flush_work(Work& work) noexcept;
  /// Afterwards the work is neither pending nor running, even when it queues itself. True when it was pending.
  bool cancel_work_sync(Work& work) noexcept;
  bool cancel_delayed_work_sync(DelayedWork& work) noexcept;
  /// cancel_work_sync that leaves the work disabled. Kernel: disable_work_sync.
  bool disable_work_sync(Work& work) noexcept;
  bool disable_delayed_work_sync(DelayedWork& work) noexcept;

  // --- work_on_cpu ---
  /// Runs `function` in a worker of `cpu` and returns what it returned. Errors: kInvalid (no such CPU).
  /// Kernel: work_on_cpu.
  template <class F> Result<std::invoke_result_t<F&>> work_on_cpu(int cpu, F function);
  /// The same, but waits only until the deadline. Errors: kInvalid, kTimeout. After a time-out the function may still run:
  /// it must own what it uses. Its worker is written off: it no longer counts as running, so the CPU's other items start.
  template <class F> Result<std::invoke_result_t<F&>> work_on_cpu(int cpu, Deadline deadline, F function);

  // --- event sources ---
  /// Serves `fd` on the CPU given from now on. Errors: kInvalid (no such CPU), kSystem.
  Result<void> add_event_source(EventSource& source, int fd, int cpu);
  /// Afterwards its function neither runs nor will run. Not from the source's own function.
  void remove_event_source(EventSource& source) noexcept;

  // --- a work that does not come back ---
  /// The worker that runs this work no longer counts as running, so the CPU's other items start; it ends when its item does.
  /// False when the work does not run.
  bool write_off(const Work& work) noexcept;
  /// The thread that runs this work now (for a stack capture), or 0.
  platform::ThreadId thread_running(const Work& work) noexcept;

  /// The counters of the normal-priority pool of a CPU; zeros when there is no such CPU.
  PoolStats stats(int cpu) const;
  /// The CPU whose worker is the calling thread, or -1 when the caller is not a worker of this engine.
  int current_worker_cpu() const noexcept;
  /// The work whose function the calling worker runs, or nullptr. Kernel: current_work.
  const Work* current_work() const noexcept;

 private:
  explicit Engine(std::shared_ptr<EngineState> state) noexcept;
  Result<void> run_on_cpu(int cpu, Deadline deadline, std::function<void()> body);

  std::shared_ptr<EngineState> state_;  // shared with the workers, which may outlive the engine when one is stuck
};

template <class F>
Result<std::invoke_result_t<F&>> Engine::work_on_cpu(int cpu, F function) {
  return work_on_cpu(cpu, Deadline::never(), std::move(function));
}

template <class F>
Result<std::invoke_result_t<F&>> Engine::work_on_cpu(int cpu, Deadline deadline, F function) {
  using R = std::invoke_result_t<F&>;
  if constexpr (std::is_void_v<R>) {
    return run_on_cpu(cpu, deadline, std::move(function));
  } else {
    // Shared with the worker: after a time-out the result has nobody to go to but must still have a place.
    auto slot = std::make_shared<std::pair<F, std::optional<R>>>(std::move(function), std::nullopt);
    auto done = run_on_cpu(cpu, deadline, [slot] { slot->second.emplace(slot->first()); });
    if (!done) return std::unexpected(std::move(done).error());
    return std::move(*slot->second);
  }
}

}  // namespace upci::inline UPCI_VARIANT
