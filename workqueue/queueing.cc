// SPDX-License-Identifier: Apache-2.0
// queue_work and its kin: taking PENDING, choosing a pool. Kernel: queue_work_on, __queue_work, queue_work_node,
// queue_delayed_work_on.
#include <fmt/format.h>

#include <mutex>

#include "workqueue/engine_state.h"
#include "workqueue/latency.h"
#include "workqueue/lifetime.h"
#include "workqueue/trace.h"

namespace upci::inline UPCI_VARIANT {

namespace {

/// Whether the caller is an item of the queue: a queue that is draining takes work from those only.
bool is_chained(const QueueState& queue) noexcept {
  const Worker* worker = Worker::current();
  return worker != nullptr && worker->current_queue() == &queue;
}

/// All callers of an ordered queue look at one place, whatever their CPU: a change of attributes is then one store, before
/// or after which each of them comes.
std::size_t slot_of(const QueueState& queue, int index) noexcept {
  return queue.is_ordered() ? 0 : static_cast<std::size_t>(index);
}

/// Callers of an unbound queue between the look-up of a pwq and the push: while one is there, no pwq is taken away.
class Entering {
 public:
  explicit Entering(QueueState& queue) noexcept : queue_(queue) {
    if (queue.is_unbound()) {
      entered_ = true;
      queue_.entering.fetch_add(1, std::memory_order_seq_cst);  // pairs with the load in sweep_retired()
    }
  }
  ~Entering() {
    if (entered_) queue_.entering.fetch_sub(1, std::memory_order_release);
  }
  Entering(const Entering&) = delete;
  Entering& operator=(const Entering&) = delete;

 private:
  QueueState& queue_;
  bool entered_ = false;
};

}  // namespace

int EngineState::local_cpu() const noexcept {
  if (const Worker* worker = Worker::current(); worker != nullptr && &worker->pool().engine() == this) {
    if (const int cpu = worker->pool().cpu(); cpu >= 0) return cpu;
  }
  const int os_cpu = platform::this_thread::current_cpu();
  if (os_cpu >= 0 && static_cast<std::size_t>(os_cpu) < cpu_of_os_.size()) {
    if (const int cpu = cpu_of_os_[static_cast<std::size_t>(os_cpu)]; cpu >= 0) return cpu;
  }
  return fallback_cpu_;
}

int EngineState::cpu_of_node(int node) noexcept {
  const int local = local_cpu();
  if (node < 0 || static_cast<std::size_t>(node) >= node_cpus_.size()) return local;
  const std::vector<int>& cpus = node_cpus_[static_cast<std::size_t>(node)];
  if (cpus.empty() || std::ranges::find(cpus, local) != cpus.end()) return local;
  return cpus[turn_.fetch_add(1, std::memory_order_relaxed) % cpus.size()];
}

/// Where the work runs right now in an item of this queue, or nullptr: it goes there, whatever CPU is asked for, so that
/// two runs never overlap (rule 5). An ordered queue has one place anyway.
WorkerPool* EngineState::where_it_runs(QueueState& queue, Work& work, std::uint64_t data) noexcept {
  WorkerPool* last = pool(WorkAccess::pool_of(data));
  if (last == nullptr || queue.is_ordered()) return nullptr;
  std::lock_guard guard(last->lock());
  const Worker* worker = last->find_worker_executing(work);
  if (worker == nullptr) return nullptr;
  const PoolWorkqueue* pwq = WorkerPool::current_pwq(*worker);
  return pwq != nullptr && pwq->queue == &queue ? last : nullptr;
}

/// Whether somebody else has PENDING. A read-modify-write that changes nothing, in one instruction (x86: lock xadd) without a
/// loop: many may call at once for a work that is pending most of the time.
static bool lost_race(Work& work) noexcept {
  auto& data = WorkAccess::data(work);
  if ((data.load(std::memory_order_relaxed) & WorkAccess::kPending) == 0) return false;
  return (data.fetch_add(0, std::memory_order_seq_cst) & WorkAccess::kPending) != 0;
}

/// Takes PENDING and queues; false when somebody has it, or the work is disabled. Each path is a read-modify-write: what a
/// losing caller wrote before is then seen by the run that clears PENDING (rule 2; pairs with the clear in
/// WorkerPool::process).
bool EngineState::queue(int cpu, QueueState& queue, Work& work) noexcept {
  if (lost_race(work)) return false;
  const int target = cpu == Engine::kAnyCpu ? local_cpu() : cpu;
  const int index = cpu_index(target);
  const std::uint32_t state = queue.state.load(std::memory_order_relaxed);
  if (index < 0 || !WorkAccess::has_function(work) || (state & QueueState::kDead) != 0) [[unlikely]] {
    return refuse(queue, state, work, "queue_work");
  }
  if ((state & QueueState::kDraining) != 0 && !is_chained(queue)) [[unlikely]]
    return refuse(queue, state, work, "queue_work");
  const Entering entering(queue);
  PoolWorkqueue* const pwq = queue.by_cpu[slot_of(queue, index)].load(std::memory_order_acquire);
  if (pwq == nullptr) [[unlikely]]
    return refuse(queue, state | QueueState::kDead, work, "queue_work");  // it was destroyed since
  WorkerPool* pool = pwq->pool;
  const std::uint64_t queued = WorkAccess::kPending | WorkAccess::workqueue_bits(queue.number());
  auto& data = WorkAccess::data(work);
  std::uint64_t old = data.load(std::memory_order_relaxed);
  for (;;) {
    const int last = WorkAccess::pool_of(old);
    const bool free = (old & (WorkAccess::kPending | WorkAccess::kDisabledMask)) == 0;
    // In the common case, it ran here last or never ran, one exchange does it all.
    const bool settled = last < 0 || last == pool->number();
    const std::uint64_t wanted = !free     ? old
                                 : settled ? queued | WorkAccess::pool_bits(pool->number())
                                           : old | WorkAccess::kPending;
    if (!data.compare_exchange_weak(old, wanted, std::memory_order_seq_cst, std::memory_order_relaxed)) continue;
    if (!free) return false;
    if (!settled) {
      if (WorkerPool* running = where_it_runs(queue, work, old)) pool = running;
      WorkAccess::replace(work, queued | WorkAccess::pool_bits(pool->number()));
    }
    break;
  }
  if (WorkAccess::pool_of(old) < 0) dependencies_.note_first_queueing(work);
  latency::note_queued(*this, queue, work, cpu, pool->cpu());
  lifetime::note_queued(*this, work, nullptr);
  trace::queue_work(work, WorkAccess::function(work), queue.name().c_str(), cpu, pool->cpu());
  pool->push(work);
  return true;
}

bool EngineState::queue_owned(int cpu, QueueState& queue, Work& work) noexcept {
  const std::uint32_t state = queue.state.load(std::memory_order_relaxed);
  const Entering entering(queue);
  const int index = cpu_index(cpu);
  PoolWorkqueue* const pwq = (state & QueueState::kDead) == 0 && index >= 0
                                 ? queue.by_cpu[slot_of(queue, index)].load(std::memory_order_acquire)
                                 : nullptr;
  if (pwq == nullptr || ((state & QueueState::kDraining) != 0 && !is_chained(queue))) [[unlikely]] {
    refuse(queue, state, work, "an expired timer");
    lifetime::note_idle(work);
    WorkAccess::data(work).fetch_and(~WorkAccess::kPending, std::memory_order_release);
    return false;
  }
  WorkerPool* pool = pwq->pool;
  const std::uint64_t old = WorkAccess::data(work).load(std::memory_order_relaxed);
  if (WorkAccess::pool_of(old) >= 0 && WorkAccess::pool_of(old) != pool->number()) {
    if (WorkerPool* running = where_it_runs(queue, work, old)) pool = running;
  }
  if (WorkAccess::pool_of(old) < 0) dependencies_.note_first_queueing(work);
  WorkAccess::replace(
      work, WorkAccess::kPending | WorkAccess::workqueue_bits(queue.number()) | WorkAccess::pool_bits(pool->number()));
  latency::note_queued(*this, queue, work, cpu, pool->cpu());
  lifetime::note_queued(*this, work, nullptr);
  trace::queue_work(work, WorkAccess::function(work), queue.name().c_str(), cpu, pool->cpu());
  pool->push(work);
  return true;
}

/// Says why nothing was queued; `state` is what the caller saw, for it may have changed since. Always false.
bool EngineState::refuse(QueueState& queue, std::uint32_t state, const Work& work, const char* call) noexcept {
  if (!WorkAccess::has_function(work)) {
    report_caller(Report::Kind::kMisuse, fmt::format("{}: the work has no function", call));
  } else if ((state & QueueState::kDead) != 0) {
    report_caller(Report::Kind::kMisuse, fmt::format("{}: the workqueue was destroyed before", call));
  } else if ((state & QueueState::kDraining) != 0) {
    if (queue.drain_warned.exchange(1, std::memory_order_relaxed) == 0) {
      report_caller(Report::Kind::kDrain,
                    fmt::format("{}: workqueue '{}' is draining and takes only what its own items queue; dropped", call,
                                queue.name()));
    }
  } else {
    report_caller(Report::Kind::kMisuse, fmt::format("{}: there is no such CPU", call));
  }
  return false;
}

void EngineState::arm(int cpu, QueueState& queue, DelayedWork& work, platform::Nanoseconds delay) noexcept {
  lifetime::note_queued(*this, work.work(), &work);
  if (keeps_history()) [[unlikely]]
    history_.note(*this, work.work(), Requester::Kind::kTimer);
  WorkAccess::workqueue(work) = &queue;
  WorkAccess::cpu(work) = cpu;
  // Timers live in the normal pool of the CPU, whose idle worker waits for their alarm.
  WorkerPool* pool = &percpu_pool(cpu_index(cpu), false);
  auto& timer_pool = WorkAccess::timer_pool(work);
  if (WorkerPool* old = timer_pool.load(std::memory_order_relaxed); old != nullptr && old != pool) {
    std::lock_guard guard(old->lock());
    timer_pool.store(nullptr, std::memory_order_relaxed);
  }
  std::lock_guard guard(pool->lock());
  timer_pool.store(pool, std::memory_order_release);
  pool->arm_timer(work, Deadline::after(delay).when());
}

bool Engine::queue_work_on(int cpu, Workqueue& wq, Work& work) noexcept {
  auto& queue = static_cast<QueueState&>(wq);
  if (&queue.engine != state_.get()) [[unlikely]]
    return state_->checked(wq, "queue_work") != nullptr;
  return state_->queue(cpu, queue, work);
}

bool Engine::queue_work_node(int node, Workqueue& wq, Work& work) noexcept {
  return queue_work_on(state_->cpu_of_node(node), wq, work);
}

}  // namespace upci::inline UPCI_VARIANT
