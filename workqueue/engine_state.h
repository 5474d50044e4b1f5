// SPDX-License-Identifier: Apache-2.0
// What an Engine's handle, its workers and its pools share. Outlives the handle while a worker is stuck.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/wait.h"
#include "workqueue/audit.h"
#include "workqueue/dependencies.h"
#include "workqueue/engine.h"
#include "workqueue/notes.h"
#include "workqueue/overseer.h"
#include "workqueue/queue_state.h"
#include "workqueue/rcu_work.h"
#include "workqueue/requesters.h"
#include "workqueue/snapshot.h"
#include "workqueue/trace_recorder.h"
#include "workqueue/worker_pool.h"

namespace upci::inline UPCI_VARIANT {

class LatencyTable;

/// What is noted of one run.
struct RunNote {
  const Work* work = nullptr;  // only its address
  std::uintptr_t function = 0;
  const QueueState* queue = nullptr;  // nullptr: a flush barrier
  int cpu = -1;                       // of the pool, or -1
  std::uint64_t queued_at = 0;        // 0: not known
  std::uint64_t started_at = 0;
};

/// C = const after create(); R = registry_; U = unbound_; T = notes_lock_; A = atomic; what has rules of its own says so.
/// Lock order: registry_, unbound_, a queue's mutex, its flush_mutex, a pool's lock, a NodeActive's lock.
class EngineState : public std::enable_shared_from_this<EngineState> {
 public:
  EngineState(Engine::Options options, std::string blocking_note);
  ~EngineState();
  Result<void> start();
  /// Stops everything; returns how many workers are stuck.
  std::size_t stop(Deadline deadline);

  const Engine::Options& options() const noexcept { return options_; }
  const Topology& topology() const noexcept { return options_.topology; }
  Overseer& overseer() noexcept { return overseer_; }
  const Requesters& requesters() const noexcept { return requesters_; }
  /// Where workers that belong nowhere may run.
  const std::vector<int>& os_cpus() const noexcept { return os_cpus_; }
  void report(Report::Kind kind, std::string text) const;
  void report(const Report& report) const;
  /// Who queued which work; kept while keeps_history().
  QueueingHistory& history() noexcept { return history_; }
  bool keeps_history() const noexcept { return (notes_.bits() & NoteSwitch::kRequesters) != 0; }
  Dependencies& dependencies() noexcept { return dependencies_; }
  RcuDomain& rcu() noexcept { return rcu_; }
  /// The same, with the caller's stack behind it.
  void report_caller(Report::Kind kind, std::string text) const;

  // --- notes (note_state.cc), by way of latency.h ---
  const NoteSwitch& notes() const noexcept { return notes_; }
  void note_queueing(const QueueState& queue, Work& work, int req_cpu, int pool_cpu) noexcept;
  void note_start(RunNote& note) noexcept;
  void note_end(const RunNote& note) noexcept;
  void note_sleep(platform::ThreadId thread, bool asleep) noexcept;
  void measure_latency(bool on);
  bool measures_latency() const noexcept { return (notes_.bits() & NoteSwitch::kLatency) != 0; }
  std::vector<FunctionLatency> latencies() const;
  Result<void> start_trace(const std::string& path);
  Result<void> start_trace(UniqueFd file);
  Result<TraceSummary> stop_trace();

  // --- pools ---
  static constexpr std::size_t kMaxPools = 16384;
  std::size_t pool_count() const noexcept { return pool_count_.load(std::memory_order_acquire); }
  /// The pool by its number, or nullptr (-1, or a number that no pool has).
  WorkerPool* pool(int number) const noexcept {
    return number >= 0 && static_cast<std::size_t>(number) < pool_count()
               ? pools_[static_cast<std::size_t>(number)].get()
               : nullptr;
  }
  template <class F>
  void for_each_pool(F function) const {
    const std::size_t count = pool_count();
    for (std::size_t i = 0; i < count; i++) function(*pools_[i]);
  }
  /// The normal or high-priority pool of a CPU, by the CPU's index.
  WorkerPool& percpu_pool(int index, bool highpri) const noexcept {
    return *pools_[static_cast<std::size_t>(index) * kPoolsPerCpu + (highpri ? 1 : 0)];
  }
  /// A CPU's place in the topology, or -1 when there is no such CPU.
  int cpu_index(int cpu) const noexcept {
    return cpu >= 0 && static_cast<std::size_t>(cpu) < index_of_cpu_.size()
               ? index_of_cpu_[static_cast<std::size_t>(cpu)]
               : -1;
  }
  /// The CPU of the calling thread in this topology; a housekeeping CPU when it is none of them.
  int local_cpu() const noexcept;
  /// A CPU of the node: the caller's own when it belongs to it, else the next in turn; any when the node has none.
  int cpu_of_node(int node) noexcept;

  // --- workqueues (alloc.cc) ---
  QueueState& system(std::size_t which) const noexcept { return *system_[which]; }
  const std::string& blocking_note() const noexcept { return blocking_note_; }
  bool is_system(const QueueState& queue) const noexcept;
  Result<QueueState*> allocate(std::string name, WqFlags flags, int max_active, bool ordered);
  void destroy(QueueState& queue) noexcept;
  /// The queue that a caller named; reports and returns nullptr when it is not one of this engine's.
  QueueState* checked(Workqueue& wq, const char* call) const;
  /// Under no lock. For snapshots and the like.
  std::vector<QueueState*> queues() const;
  Result<void> start_bh();
  /// The same; when it fails, the overseer goes on trying.
  void want_bh() noexcept;

  // --- queueing (queueing.cc) ---
  bool queue(int cpu, QueueState& queue, Work& work) noexcept;
  /// Queues a work whose PENDING the caller owns. False when the queue refuses it: then it is idle again.
  bool queue_owned(int cpu, QueueState& queue, Work& work) noexcept;
  void arm(int cpu, QueueState& queue, DelayedWork& work, platform::Nanoseconds delay) noexcept;

  // --- limits and attributes (limits.cc, attributes.cc, freezing.cc, hotplug.cc) ---
  Result<void> set_limits(QueueState& queue, int max_active, int min_active);
  Result<void> apply_attrs(QueueState& queue, WorkqueueAttrs attrs);
  Result<void> set_unbound_cpumask(CpuSet cpus);
  void freeze(bool on);
  bool freezing_busy();
  /// `told`: somebody says so, whatever the machine shows.
  Result<void> set_cpu_online(int cpu, bool online, bool told);
  bool is_online(int cpu) const;
  HotplugCallbacks& hotplug() noexcept { return hotplug_; }
  /// Looks which CPUs are online now, and does what set_cpu_online does for those that changed.
  void follow_cpus();

  // --- activation (activation.cc) ---
  void follow_up(const FollowUp& next) noexcept;

  // --- flushing (flush_workqueue.cc, drain.cc) ---
  bool flush(Work& work, bool for_cancel) noexcept;
  void flush(QueueState& queue) noexcept;
  void drain(QueueState& queue) noexcept;
  bool may_wait_for(QueueState& queue, const char* call);

  // --- rescuing (rescuer.cc) ---
  platform::Mutex& mayday_lock() noexcept { return mayday_lock_; }
  void send_mayday(WorkerPool& pool) noexcept;

 private:
  friend class Overseer;
  friend struct EngineSnapshot;
  static constexpr std::size_t kPoolsPerCpu = 4;  // normal, high priority, bottom halves, those of high priority
  static constexpr std::size_t kMaxQueues = 65534;
  static constexpr std::size_t kQuarantine = 256;  // destroyed queues that wait before their numbers are used again

  void emit(const Report& report) const;
  void note_run(const RunNote& note, TraceEvent::Kind kind, std::uint64_t now) noexcept;
  void begin_notes(std::uint32_t bit);
  template <class File> Result<void> start_trace_in(File file);
  Result<WorkerPool*> add_pool(WorkerPool::Identity identity);
  Result<void> create_pools();
  Result<void> create_system_queues();
  Result<QueueState*> take_slot();
  Result<void> set_up(QueueState& queue, std::string name, WqFlags flags, int max_active, bool ordered);
  void give_back(QueueState& queue) noexcept;
  WorkerPool* where_it_runs(QueueState& queue, Work& work, std::uint64_t data) noexcept;
  bool refuse(QueueState& queue, std::uint32_t state, const Work& work, const char* call) noexcept;

  void hand_over(NodeActive& node) noexcept;
  void unplug(QueueState& queue) noexcept;
  void unplug_locked(QueueState& queue) noexcept;
  void update_limits(QueueState& queue);
  Result<void> install_pwqs(QueueState& queue);
  Result<WorkerPool*> unbound_pool(const WorkerPool::Identity& identity);
  Result<PoolWorkqueue*> pwq_in(QueueState& queue, WorkerPool& pool);
  void sweep_retired(QueueState& queue);
  CpuSet pod_of(int cpu, AffinityScope scope) const;
  CpuSet allowed_cpus(const QueueState& queue) const;
  CpuSet all_cpus() const;
  Result<void> reinstall_all();
  Result<void> move_pools(int cpu, bool online, bool told);

  bool prepare_pwqs(QueueState& queue, int flush_color, int work_color);
  void cascade(QueueState& queue);
  void check_flush_dependency(QueueState* target, const char* what) const;

  const Engine::Options options_;
  const std::string blocking_note_;  // C
  NoteSwitch notes_;                 // A; read by each queueing and run
  std::unique_ptr<std::unique_ptr<WorkerPool>[]>
      pools_;                                    // those below pool_count_ are C; kPoolsPerCpu for each CPU first
  platform::Atomic<std::size_t> pool_count_{0};  // A; grows under U
  std::vector<int> index_of_cpu_;                // C: by CPU number
  std::vector<std::vector<int>> node_cpus_;      // C: by node: its housekeeping CPUs
  std::vector<int> cpu_of_os_;                   // C: by OS CPU: a CPU of the topology, or -1
  std::vector<int> os_cpus_;                     // C: the OS CPUs of the topology
  int fallback_cpu_ = 0;                         // C
  platform::Atomic<unsigned> turn_{0};           // A: spreads cpu_of_node
  std::array<QueueState*, 9> system_{};          // C

  mutable Mutex registry_;                           // queues' being there, freezing
  std::vector<std::unique_ptr<QueueState>> queues_;  // R: by number
  std::deque<int> free_numbers_;                     // R: of destroyed queues, the longest dead first
  bool freezing_ = false;                            // R
  bool stopped_ = false;                             // R and U to write, either to read

  mutable Mutex unbound_;                   // attributes of all unbound queues, and their pools
  CpuSet unbound_cpumask_;                  // U
  std::vector<int> seen_cpus_;              // the overseer's: OS CPUs at its last look
  std::vector<bool> cpu_is_on_;             // U: by the CPU's index
  std::vector<WorkerPool*> unbound_pools_;  // U: in use
  std::vector<WorkerPool*> retired_pools_;  // U: to be used again
  bool bh_started_ = false;                 // U

  platform::Mutex notes_lock_;                          // T: switching notes on and off
  std::unique_ptr<LatencyTable> latency_table_;         // T: made when it is first wanted, then stays
  std::unique_ptr<TraceRecorder> trace_recorder_;       // T: the same
  platform::Atomic<LatencyTable*> latencies_{nullptr};  // A: latency_table_
  platform::Atomic<TraceRecorder*> recorder_{nullptr};  // A: trace_recorder_
  platform::Atomic<std::uint64_t> measured_since_{0};   // A: works' times from before mean nothing

  platform::Mutex mayday_lock_;  // the rescuers' lists of pwqs; inside a pool's lock
  HotplugCallbacks hotplug_;     // its own rules; called under no lock of the engine
  QueueingHistory history_;      // its own rules
  Requesters requesters_;        // its own rules
  Dependencies dependencies_;    // its own rules
  RcuDomain rcu_;                // its own rules
  Overseer overseer_;            // its own rules
};

}  // namespace upci::inline UPCI_VARIANT
