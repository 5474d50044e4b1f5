// SPDX-License-Identifier: Apache-2.0
// A worker pool: a worklist, the workers that serve it, and, for those of a CPU, the rule that at most one of them runs
// items at a time unless the one that runs goes to sleep. Kernel: struct worker_pool.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "workqueue/engine.h"
#include "workqueue/event_source.h"
#include "workqueue/pool_workqueue.h"
#include "workqueue/queue_state.h"
#include "workqueue/timer.h"
#include "workqueue/work_data.h"
#include "workqueue/worker.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;
struct PoolSnapshot;

/// A flush: a work of its own behind the one that is waited for. Lives on the flusher's stack (rule 15): its function is
/// the last to touch it.
struct FlushBarrier : Work {
  FlushBarrier() noexcept : Work(&complete) {}
  static void complete(Work& work) { static_cast<FlushBarrier&>(work).done.complete(); }
  Completion done;
};

/// What must be done for other pools once the caller has let go of a pool's lock (EngineState::follow_up).
struct FollowUp {
  NodeActive* node = nullptr;   // a slot of it is free, and a pwq waits for one
  QueueState* queue = nullptr;  // an ordered queue whose older pwq has run dry
  explicit operator bool() const noexcept { return node != nullptr || queue != nullptr; }
};

/// Locking:  P = lock(); C = const while the pool is in use; A = atomic.
/// Lock order: no two pools' locks are ever held together.
class WorkerPool {
 public:
  enum class Kind : std::uint8_t { kPercpu, kBh, kUnbound };
  /// What the pool is for. Two unbound workqueues of equal attributes share their pools.
  struct Identity {
    Kind kind = Kind::kPercpu;
    Topology::Cpu cpu = {};  // kPercpu, kBh
    int cpu_index = -1;      // its place in the topology
    int nice = 0;
    CpuSet cpus = {};     // kUnbound: where its workers may run
    CpuSet pod = {};      // kUnbound: where they should run
    bool strict = false;  // kUnbound: they never leave the pod
    int node = -1;        // kUnbound: the node that holds the pod, or -1

    bool same_attributes(const Identity& other) const noexcept {
      return kind == other.kind && nice == other.nice && cpus == other.cpus && pod == other.pod &&
             strict == other.strict;
    }
  };

  static Result<std::unique_ptr<WorkerPool>> create(EngineState& engine, int number, Identity identity);
  ~WorkerPool();

  int number() const noexcept { return number_; }
  const Identity& identity() const noexcept { return identity_; }
  /// The CPU that it is bound to, or -1.
  int cpu() const noexcept { return identity_.kind == Kind::kUnbound ? -1 : identity_.cpu.id; }
  EngineState& engine() const noexcept { return engine_; }
  platform::Mutex& lock() noexcept { return lock_; }

  // --- the policy, as small predicates; under lock() ---
  bool has_work() const noexcept { return !worklist_.empty() || inbox_.load(std::memory_order_seq_cst) != nullptr; }
  /// Items wait and nobody who counts is running. Always so while items wait in a pool that does not manage concurrency.
  bool need_more_worker() const noexcept { return has_work() && nr_running_.load(std::memory_order_relaxed) == 0; }
  /// A worker may run items only while another one stands by for what comes meanwhile.
  bool may_start_working() const noexcept { return nr_idle_.load(std::memory_order_relaxed) > 0 || is_bh(); }
  /// The caller goes on when it is the only one that counts as running.
  bool keep_working() const noexcept { return has_work() && nr_running_.load(std::memory_order_relaxed) <= 1; }
  /// More idle workers than two and a quarter of the busy ones.
  bool too_many_workers() const noexcept {
    const unsigned idle = nr_idle_.load(std::memory_order_relaxed);
    return idle > 2 && (idle - 2) * 4 >= nr_workers_ - idle;
  }
  /// Whether its workers' concurrency is managed: not in unbound and bottom-half pools, nor while the CPU is away.
  bool manages_concurrency() const noexcept { return identity_.kind == Kind::kPercpu && !disassociated_; }
  bool is_bh() const noexcept { return identity_.kind == Kind::kBh; }

  // --- works ---
  /// Any context, no lock. Puts a work whose PENDING the caller owns, and whose data names this pool and its queue, into
  /// the inbox, and wakes a worker when one is needed. The engine is told when that worker must first be created.
  void push(Work& work) noexcept;
  // --- works; under lock() ---
  /// Moves what is in the inbox onto the worklist, or to the inactive items of its pwq.
  void take_inbox() noexcept;
  /// Takes a queued work off its list; the caller owns PENDING then.
  [[nodiscard]] FollowUp remove(Work& work) noexcept;
  /// Lets `barrier` run right behind `target`, which is queued here or runs in `worker`.
  void insert_barrier(FlushBarrier& barrier, Work& target, Worker* worker) noexcept;
  /// The worker that runs this very work with this very function (rule 7), or nullptr.
  Worker* find_worker_executing(const Work& work) noexcept;
  static platform::ThreadId thread_of(const Worker& worker) noexcept { return worker.thread_id_; }
  static PoolWorkqueue* current_pwq(const Worker& worker) noexcept { return worker.current_pwq_; }
  /// The worker no longer counts as running; it is replaced, and ends when its item does.
  void write_off(Worker& worker) noexcept;
  /// Wakes a worker when one is needed.
  void kick() noexcept;

  // --- pwqs; under lock() ---
  void install(PoolWorkqueue& pwq);
  void uninstall(int queue) noexcept;
  bool has_pwqs() const noexcept { return nr_pwqs_ != 0; }
  PoolWorkqueue* pwq_of(int queue) const noexcept {
    return queue >= 0 && static_cast<std::size_t>(queue) < pwqs_.size() ? pwqs_[static_cast<std::size_t>(queue)]
                                                                        : nullptr;
  }
  /// Starts inactive items of a pwq with a limit of its own, as many as the limit allows.
  void activate_inactive(PoolWorkqueue& pwq) noexcept;
  /// Starts the oldest inactive item, whose slot the caller has taken.
  void activate_first(PoolWorkqueue& pwq) noexcept;

  // --- timers; under lock() ---
  void arm_timer(DelayedWork& work, platform::TimePoint expires) noexcept;
  void disarm_timer(DelayedWork& work) noexcept;

  // --- event sources; takes lock() ---
  Result<void> add_source(EventSource& source, int fd);
  void remove_source(EventSource& source) noexcept;

  // --- life ---
  /// One more worker. Errors: kSystem when there is no thread to be had, kState while stopping.
  Result<void> create_worker();
  /// No item starts any more; what is pending is dropped. Wakes all workers so that they end.
  void stop() noexcept;
  /// Waits until all workers have ended; those that have not by the deadline are detached. Returns how many those are.
  std::size_t join(Deadline deadline);
  /// An unbound pool that no workqueue uses any more keeps nobody; under no lock.
  void retire() noexcept;
  void reuse(Identity identity);
  /// No worker is left, and none is being made.
  bool at_rest();
  /// Asks the overseer to find a worker.
  void note_lack();

  // --- CPU hotplug; takes lock() ---
  /// `told`: until rebind(), also when its workers find their CPU there.
  void disassociate(bool told) noexcept;
  void rebind() noexcept;

  PoolStats stats();
  PoolSnapshot snapshot(bool names);

 private:
  friend class Worker;
  friend class Rescuer;
  friend class Overseer;
  friend class EngineState;
  WorkerPool(EngineState& engine, int number, Identity identity, platform::EventQueue events);

  static constexpr std::size_t kBusyBuckets = 64;
  Worker*& busy_bucket(const Work* work) noexcept {
    return busy_[(reinterpret_cast<std::uintptr_t>(work) >> 4) % kBusyBuckets];
  }

  // Activation (activation.cc); under lock().
  void accept(Work& work) noexcept;
  bool take_slot(PoolWorkqueue& pwq) noexcept;
  [[nodiscard]] NodeActive* release_slot(PoolWorkqueue& pwq) noexcept;
  [[nodiscard]] FollowUp finish(PoolWorkqueue& pwq, int color, bool was_active) noexcept;

  // Unannounced sleep (blocking_watch.cc); under lock().
  void watch(Worker& worker);
  void unwatch(Worker& worker) noexcept;
  void note_switch(Worker& worker) noexcept;
  platform::SwitchWatch::State rearm(Worker& worker) noexcept;
  void ask_to_rearm(const Worker& worker) noexcept;
  void note_asleep(Worker& worker) noexcept;
  void note_awake(Worker& worker) noexcept;
  void look_for_awake() noexcept;

  void bind_again() noexcept;
  void restart_watchdog(platform::TimePoint now) noexcept {
    stalled_since_.store(now, std::memory_order_relaxed);
    stall_reported_ = now;
  }
  bool has_waiting_items() const noexcept;  // on the worklist, or beyond max_active with nobody to make room
  std::string describe() const;
  void host(Worker& rescuer);
  void assume(Identity identity);
  static void make_current(Worker* worker) noexcept;
  void wake_one() noexcept;
  void reap();  // under lock()
  unsigned free_id() const;
  std::string thread_name(unsigned id) const;

  // The worker's thread (worker_loop.cc). All take the lock where they need it; "under" means that it is held.
  enum class Idle : std::uint8_t { kWork, kLook, kCulled };
  void run(Worker& worker);
  void work_off(Worker& worker, std::unique_lock<platform::Mutex>& under);
  Idle idle(Worker& worker, std::unique_lock<platform::Mutex>& under);
  bool spin(std::unique_lock<platform::Mutex>& under);
  void manage_workers(std::unique_lock<platform::Mutex>& under);
  void come_home(Worker& worker, std::unique_lock<platform::Mutex>& under);
  void return_to_pod(std::unique_lock<platform::Mutex>& under);
  bool cpu_is_online() const;
  bool assign(Worker& worker, Work& work) noexcept;
  void process_scheduled(Worker& worker, std::unique_lock<platform::Mutex>& under);
  void process(Worker& worker, Work& work, std::unique_lock<platform::Mutex>& under);
  void begin(Worker& worker, Work& work, const WorkFunction& function, PoolWorkqueue* pwq, int color) noexcept;
  void end(Worker& worker, const Work* work) noexcept;
  void start_counting(Worker& worker) noexcept;
  void stop_counting(Worker& worker) noexcept;
  void serve(std::uint64_t token, std::unique_lock<platform::Mutex>& under);
  void expire_timers(std::unique_lock<platform::Mutex>& under);
  void reset_alarm() noexcept;

  EngineState& engine_;          // C
  const int number_;             // C
  Identity identity_;            // C
  std::vector<int> os_cpus_;     // C: kUnbound: where its workers may run; empty: where the process may
  CpuSet os_pod_;                // C: kUnbound: where they begin
  platform::EventQueue events_;  // C (thread-safe itself): where idle workers wait

  // What queueing callers touch, on a line of its own.
  alignas(64) platform::Atomic<WorkNode*> inbox_{nullptr};  // A: what was queued and not yet taken over, newest first
  alignas(64) platform::Atomic<int> nr_running_{0};  // A to read, P to write: workers that are busy, awake and count
  platform::Atomic<unsigned> nr_idle_{0};            // A to read, P to write: those that wait, or were just created
  platform::Atomic<bool> wake_pending_{false};       // A: a notification is on its way to an idle worker
  platform::Atomic<bool> spinning_{false};           // A: an idle worker looks at the inbox without sleeping
  bool lacks_worker_ = false;                        // P: nobody could be created; the overseer tries again

  alignas(64) platform::Mutex lock_;
  WorkList worklist_;                             // P
  std::vector<std::unique_ptr<Worker>> workers_;  // P: all that exist, or have ended and wait to be joined
  std::array<Worker*, kBusyBuckets> busy_{};  // P: those that run an item, by its address, linked through next_busy_
  unsigned nr_workers_ = 0;                   // P: those that have not ended
  bool managing_ = false;                     // P: somebody creates a worker
  bool stopping_ = false;                     // P
  bool retired_ = false;                      // P: no workqueue uses it; its workers end
  bool disassociated_ = false;                // P: its CPU is offline
  unsigned nr_unannounced_ = 0;               // P: workers that sleep and will not tell when they wake
  std::unordered_map<std::uint64_t, Worker*> watched_;       // P: by the token of their watch
  bool told_ = false;                                        // P: somebody said so, and will say when it is back
  bool away_ = false;                                        // P: its workers run elsewhere, and the log said so
  std::vector<PoolWorkqueue*> pwqs_;                         // P: by the queue's number
  std::size_t nr_pwqs_ = 0;                                  // P
  TimerHeap timers_;                                         // P
  std::unordered_map<std::uint64_t, EventSource*> sources_;  // P: by token
  std::uint64_t next_token_ = 1;                             // P
  platform::Atomic<std::uint32_t> source_ended_{0};          // A: counts ends of top halves; remove_source sleeps on it
  PoolStats stats_;                                          // P

  // The overseer's notes on this pool; written by its own thread only.
  std::uint64_t seen_executed_ = 0;
  platform::Atomic<platform::TimePoint> stalled_since_{platform::TimePoint{}};  // A: no item has started since
  platform::TimePoint stall_reported_{};
  platform::TimePoint asked_for_{};  // the report before which its CPU was asked for a sign of life
};

}  // namespace upci::inline UPCI_VARIANT
