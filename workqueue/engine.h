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
#include "base/unique_fd.h"
#include "workqueue/audit.h"
#include "workqueue/delayed_work.h"
#include "workqueue/event_source.h"
#include "workqueue/hotplug_state.h"
#include "workqueue/report.h"
#include "workqueue/topology.h"
#include "workqueue/work.h"
#include "workqueue/workqueue.h"

namespace upci::inline UPCI_VARIANT {

class ControlServer;
class EngineState;
struct TraceSummary;
struct EngineSnapshot;
class RcuDomain;
class RcuWork;

/// Counters of one CPU's pool. Each is a snapshot; they only grow.
struct PoolStats {
  std::uint64_t executed = 0;        // items whose function was called
  std::uint64_t wakeups = 0;         // times a worker came out of its idle wait for work, a timer or an event
  std::uint64_t switch_wakeups = 0;  // times one did to see whether a switched-out worker sleeps
  std::uint64_t events = 0;          // calls of event sources
  std::uint64_t workers = 0;         // workers created
  std::uint64_t cm_wakeups = 0;      // workers woken because a running one blocked
  std::uint64_t written_off = 0;     // workers given up by a deadline
  std::uint64_t displaced = 0;       // times a worker took up work on another CPU, since its own was offline
  std::uint64_t repatriated = 0;     // times a worker of an unbound pool was brought back into its pod
};

/// How an engine notices that an item sleeps, so that the next one of its CPU can start.
enum class BlockingTier : std::uint8_t {
  kAuto,       // the best one that a self-test at start finds to work
  kFramework,  // waits of base/wait.h only, which tell
  kSwitches,   // and all others, by the kernel's records of context switches (perf_event_open): within microseconds
  kSampling,   // and all others, by a look at each worker's state every millisecond
};
std::string_view to_string(BlockingTier tier) noexcept;

/// Which waits of items an engine remembers, to report those that together can deadlock (Report::Kind::kDependencyCycle)
/// the first time that their order is seen. Kernel: lockdep.
enum class DependencyTracking : std::uint8_t {
  kDefault,      // kWaits in a release build of the library, kCompletions in a debug build
  kOff,          // none
  kWaits,        // flushes, drains and cancel_*_sync by items
  kCompletions,  // and an item's wait for a Completion that another item completes: costs each complete() a look-up
};

/// What work_busy() tells. Kernel: WORK_BUSY_PENDING, WORK_BUSY_RUNNING.
inline constexpr unsigned kWorkBusyPending = 1;
inline constexpr unsigned kWorkBusyRunning = 2;

/// Owns pools and system workqueues. Any number of engines can live in one process. All members are thread-safe unless said.
class Engine {
 public:
  struct Options {
    Topology topology;
    std::chrono::nanoseconds teardown = std::chrono::seconds(5);  // how long ~Engine waits for items that still run
    std::chrono::nanoseconds spin{0};  // how long an idle worker looks for work before it sleeps
    std::chrono::nanoseconds idle_timeout = std::chrono::seconds(300);  // after which an extra idle worker ends
    std::chrono::nanoseconds hog_threshold =
        std::chrono::milliseconds(10);                             // CPU time, after which an item is intensive
    std::chrono::nanoseconds watchdog = std::chrono::seconds(30);  // without a start, until a pool is stalled; 0: never
    std::chrono::nanoseconds mayday = std::chrono::milliseconds(10);  // without a thread, until rescuers are called
    BlockingTier blocking = BlockingTier::kAuto;
    bool keep_requesters = false;  // the stack of each queueing, for reports; costs microseconds each
    DependencyTracking track_dependencies = DependencyTracking::kDefault;
    bool measure_latency = false;                         // histograms of queue -> start and of run times, by function
    std::string trace = {};                               // a file for a trace of the engine's whole life; empty: none
    bool control = false;                                 // serve_control() at once; where that fails, the log says so
    bool power_efficient = false;                         // kWqPowerEfficient queues are unbound
    AffinityScope default_scope = AffinityScope::kCache;  // of unbound queues
    ReportSink report = {};                               // where reports go; the log, when empty
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

  // The system workqueues, by the kernel's names, old and new. Flushing one of them is reported: it waits for whatever
  // anybody has put there.
  Workqueue& system_wq() noexcept;  // "events"
  Workqueue& system_percpu_wq() noexcept { return system_wq(); }
  Workqueue& system_highpri_wq() noexcept;  // "events_highpri"
  Workqueue& system_long_wq() noexcept;     // "events_long"
  Workqueue& system_unbound_wq() noexcept;  // "events_unbound"
  Workqueue& system_dfl_wq() noexcept { return system_unbound_wq(); }
  Workqueue& system_freezable_wq() noexcept;                  // "events_freezable"
  Workqueue& system_power_efficient_wq() noexcept;            // "events_power_efficient"
  Workqueue& system_freezable_power_efficient_wq() noexcept;  // "events_freezable_power_efficient"
  Workqueue& system_bh_wq() noexcept;                         // "events_bh"
  Workqueue& system_bh_highpri_wq() noexcept;                 // "events_bh_highpri"

  // --- workqueues; may block ---
  /// `max_active`: how many items may be active, per CPU, or per node for unbound ones; 0 stands for 1024.
  /// Errors: kInvalid (flags that exclude each other, max_active outside 0..2048), kSystem (no thread for its rescuer),
  /// kUnavailable (too many workqueues). Kernel: alloc_workqueue.
  Result<WorkqueuePtr> alloc_workqueue(std::string name, WqFlags flags, int max_active = 0);
  /// Runs its items one at a time, in the order of their queueing. Kernel: alloc_ordered_workqueue.
  Result<WorkqueuePtr> alloc_ordered_workqueue(std::string name, WqFlags flags = 0);
  /// One at a time on this machine, with a rescuer; the old name. Kernel: create_singlethread_workqueue.
  Result<WorkqueuePtr> create_singlethread_workqueue(std::string name) {
    return alloc_ordered_workqueue(std::move(name), kWqMemReclaim);
  }
  /// Kernel: create_workqueue.
  Result<WorkqueuePtr> create_workqueue(std::string name) {
    return alloc_workqueue(std::move(name), kWqMemReclaim | kWqPercpu, 1);
  }
  /// Changes the limit while items run; a higher one starts waiting items at once. Errors: kInvalid (outside 1..2048, an
  /// ordered queue), kState (destroyed). Kernel: workqueue_set_max_active.
  Result<void> set_max_active(Workqueue& wq, int max_active);
  /// The least number of items that may be active on each node, whatever its share. Unbound queues only. Errors: as above.
  /// Kernel: workqueue_set_min_active.
  Result<void> set_min_active(Workqueue& wq, int min_active);
  /// Changes the attributes of an unbound queue while items run: what is queued from now on runs by the new ones.
  /// Errors: kInvalid (not unbound, nice outside -20..19, a cpumask without a CPU of this engine), kSystem.
  /// Kernel: apply_workqueue_attrs.
  Result<void> apply_workqueue_attrs(Workqueue& wq, WorkqueueAttrs attrs);
  Result<WorkqueueAttrs> workqueue_attrs(const Workqueue& wq) const;
  /// Keeps all unbound queues to these CPUs. Errors: kInvalid. Kernel: workqueue_unbound_cpumask (sysfs).
  Result<void> set_unbound_cpumask(CpuSet cpus);
  /// No item of a kWqFreezable queue starts from now on; those that run, finish. Kernel: freeze_workqueues_begin.
  void freeze_workqueues();
  /// Whether items of frozen queues still run. Kernel: freeze_workqueues_busy.
  bool freeze_workqueues_busy();
  /// Kernel: thaw_workqueues.
  void thaw_workqueues();

  // --- CPU hotplug: told by whoever knows, or seen by the engine itself; may block ---
  /// The CPU's pools go on without a CPU of their own. Errors: kInvalid (no such CPU, the last one).
  /// Kernel: workqueue_offline_cpu.
  Result<void> cpu_offline(int cpu);
  /// They are bound to it again. Kernel: workqueue_online_cpu.
  Result<void> cpu_online(int cpu);
  /// Callbacks for CPUs that come and go, however that was learnt; they run in the thread that learns it. Kernel:
  /// cpuhp_setup_state.
  HotplugCallbacks& hotplug() noexcept;

  // --- queueing; any context, never blocks, never allocates ---
  /// Queues on the caller's CPU when it is a worker of this engine, else on a housekeeping CPU. Returns true exactly when
  /// this call took PENDING and the work is not disabled. Kernel: queue_work.
  bool queue_work(Workqueue& wq, Work& work) noexcept { return queue_work_on(kAnyCpu, wq, work); }
  /// Queues on the CPU given; false also when there is no such CPU. Kernel: queue_work_on.
  bool queue_work_on(int cpu, Workqueue& wq, Work& work) noexcept;
  /// Queues on some CPU of the node, or on any CPU when the node has none. Kernel: queue_work_node.
  bool queue_work_node(int node, Workqueue& wq, Work& work) noexcept;
  bool schedule_work(Work& work) noexcept { return queue_work(system_wq(), work); }
  bool schedule_work_on(int cpu, Work& work) noexcept { return queue_work_on(cpu, system_wq(), work); }
  bool schedule_delayed_work(DelayedWork& work, std::chrono::nanoseconds delay) noexcept {
    return queue_delayed_work(system_wq(), work, delay);
  }
  /// Kernel: queue_delayed_work(_on). A delay of 0 or less queues at once.
  bool queue_delayed_work(Workqueue& wq, DelayedWork& work, std::chrono::nanoseconds delay) noexcept {
    return queue_delayed_work_on(kAnyCpu, wq, work, delay);
  }
  bool queue_delayed_work_on(int cpu, Workqueue& wq, DelayedWork& work, std::chrono::nanoseconds delay) noexcept;
  /// Queues it, or changes when a pending one runs: one instance, the latest expiry. True when it was pending.
  /// Kernel: mod_delayed_work(_on).
  bool mod_delayed_work(Workqueue& wq, DelayedWork& work, std::chrono::nanoseconds delay) noexcept {
    return mod_delayed_work_on(kAnyCpu, wq, work, delay);
  }
  bool mod_delayed_work_on(int cpu, Workqueue& wq, DelayedWork& work, std::chrono::nanoseconds delay) noexcept;

  /// Queues the work once all read-side sections of rcu() that have begun by now have ended. False when it is pending or
  /// disabled. Never waits. Kernel: queue_rcu_work.
  bool queue_rcu_work(Workqueue& wq, RcuWork& work) noexcept;
  /// The engine's read-side sections (workqueue/rcu_work.h).
  RcuDomain& rcu() noexcept;

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
  /// Waits for the grace period that the work waits for, if any, then as flush_work. Kernel: flush_rcu_work.
  bool flush_rcu_work(RcuWork& work) noexcept;
  /// A pending timer is cut short, then as flush_work. Kernel: flush_delayed_work.
  bool flush_delayed_work(DelayedWork& work) noexcept;
  /// Waits for all that was queued on `wq` before; pending timers are ignored. Kernel: flush_workqueue.
  void flush_workqueue(Workqueue& wq) noexcept;
  /// Waits until `wq` is empty. Meanwhile it takes only what its own items queue; the rest is dropped with a report.
  /// Kernel: drain_workqueue.
  void drain_workqueue(Workqueue& wq) noexcept;
  /// Flushes the system workqueue. Better flush your own. Kernel: flush_scheduled_work.
  void flush_scheduled_work() noexcept { flush_workqueue(system_wq()); }
  /// Runs `function` once on each CPU that is online, in workers, and waits for all. Kernel: schedule_on_each_cpu.
  void schedule_on_each_cpu(std::function<void()> function);
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

  // --- looking on; any context ---
  /// kWorkBusyPending and kWorkBusyRunning, or-ed. A hint. Kernel: work_busy.
  unsigned work_busy(const Work& work) noexcept;
  /// What has queued this work before and may do so again, in the order in which to stop it: to be asked before the work is
  /// destroyed. Known while Options::keep_requesters is on; without it only the armed timer of a DelayedWork is. The names
  /// of functions are looked up: milliseconds.
  std::vector<Requester> what_can_queue(const Work& work) const;
  std::vector<Requester> what_can_queue(const DelayedWork& work) const;
  /// Whether items of `wq` wait for max_active on this CPU; -1: the caller's. Kernel: workqueue_congested.
  bool workqueue_congested(int cpu, Workqueue& wq) noexcept;
  /// Describes what the calling worker's item is about, for dumps. Kernel: set_worker_desc.
  void set_worker_desc(std::string text) noexcept;
  /// How blocking is noticed here; never kAuto.
  BlockingTier blocking_tier() const noexcept;
  /// Why it is not a better one, and what to do about that; empty when it is the best, or was asked for.
  const std::string& blocking_note() const noexcept;
  /// All pools, workqueues and workers as they are now. Kernel: wq_monitor.py, wq_dump.py.
  /// Without names it leaves WorkerSnapshot::function empty: looking one up takes milliseconds.
  EngineSnapshot snapshot(bool names = true) const;
  /// Lets `upci wq` of the same user, or root's, look into this engine and change it, by a socket (workqueue/control.h) that
  /// is gone when the engine is. Once, not by several threads at once. Errors: kState (it does already), kUnavailable,
  /// kSystem.
  Result<void> serve_control();
  /// Begins to measure, anew, or ends it. What was measured stays in snapshots until it begins the next time.
  void measure_latency(bool on);
  /// Records queueings, runs and sleeps, at most a million, until stop_trace() writes them as JSON that Perfetto reads, with
  /// an arrow from each queueing to its run. Errors: kState (there is one already), kSystem.
  Result<void> start_trace(const std::string& path);
  /// The same, into a descriptor that is open for writing.
  Result<void> start_trace(UniqueFd file);
  /// Writes the file; may take a second. What it holds is told by workqueue/trace_recorder.h. Errors: kState (there is
  /// none), kSystem.
  Result<TraceSummary> stop_trace();

  /// The counters of the normal-priority pool of a CPU; zeros when there is no such CPU.
  PoolStats stats(int cpu) const;
  /// The CPU whose worker is the calling thread, or -1 when the caller is not a worker of this engine.
  int current_worker_cpu() const noexcept;
  /// The work whose function the calling worker runs, or nullptr. Kernel: current_work.
  const Work* current_work() const noexcept;

 private:
  explicit Engine(std::shared_ptr<EngineState> state) noexcept;
  Result<void> run_on_cpu(int cpu, Deadline deadline, std::function<void()> body);

  std::unique_ptr<ControlServer> control_;  // ends first
  std::shared_ptr<EngineState> state_;      // shared with the workers, which may outlive the engine when one is stuck
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
