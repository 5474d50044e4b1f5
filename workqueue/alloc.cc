// SPDX-License-Identifier: Apache-2.0
// Making and ending workqueues. Kernel: alloc_workqueue, destroy_workqueue.
#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "workqueue/engine_state.h"
#include "workqueue/rescuer.h"

namespace upci::inline UPCI_VARIANT {

namespace {

constexpr WqFlags kAllFlags = kWqBh | kWqUnbound | kWqFreezable | kWqMemReclaim | kWqHighpri | kWqCpuIntensive |
                              kWqSysfs | kWqPowerEfficient | kWqPercpu;

Result<void> check_request(const std::string& name, WqFlags flags, int max_active, bool ordered) {
  const auto bad = [&name](std::string why, std::string advice = {}) {
    return fail(Errc::kInvalid, fmt::format("workqueue '{}': {}", name, why), std::move(advice));
  };
  if (name.empty()) return bad("it has no name");
  if ((flags & ~kAllFlags) != 0) return bad(fmt::format("unknown flags {:#x}", flags & ~kAllFlags));
  if ((flags & kWqPercpu) != 0 && (flags & kWqUnbound) != 0) return bad("both per CPU and unbound");
  if ((flags & kWqBh) != 0 && (flags & ~(kWqBh | kWqHighpri | kWqPercpu)) != 0) {
    return bad("kWqBh goes with kWqHighpri and kWqPercpu only");
  }
  if ((flags & kWqBh) != 0 && max_active != 0) return bad("kWqBh takes no max_active", "leave it 0");
  if (ordered && (flags & (kWqPercpu | kWqBh)) != 0) return bad("an ordered one is unbound");
  if (max_active < 0 || max_active > kWqMaxActive) {
    return bad(fmt::format("max_active {} is not between 0 and {}", max_active, kWqMaxActive),
               fmt::format("0 stands for {}", kWqDefaultActive));
  }
  return {};
}

}  // namespace

QueueState::QueueState(EngineState& owner, int number) : Workqueue(number), engine(owner) {}
QueueState::~QueueState() = default;

Result<QueueState*> EngineState::take_slot() {
  if (stopped_) return fail(Errc::kState, "the engine is shutting down");
  const bool full = queues_.size() >= kMaxQueues;
  if (free_numbers_.size() > kQuarantine || (full && !free_numbers_.empty())) {
    const int number = free_numbers_.front();
    free_numbers_.pop_front();
    return queues_[static_cast<std::size_t>(number)].get();
  }
  if (full) return fail(Errc::kUnavailable, fmt::format("no more than {} workqueues at a time", kMaxQueues));
  queues_.push_back(std::make_unique<QueueState>(*this, static_cast<int>(queues_.size())));
  return queues_.back().get();
}

Result<QueueState*> EngineState::allocate(std::string name, WqFlags flags, int max_active, bool ordered) {
  UPCI_TRY(check_request(name, flags, max_active, ordered));
  if ((flags & kWqPowerEfficient) != 0 && options_.power_efficient) flags = (flags & ~kWqPercpu) | kWqUnbound;
  if (ordered) flags |= kWqUnbound;
  std::lock_guard registry_guard(registry_);
  UPCI_TRY_ASSIGN(QueueState * queue, take_slot());
  std::lock_guard unbound_guard(unbound_);
  std::lock_guard guard(queue->mutex);
  if (auto made = set_up(*queue, std::move(name), flags, max_active, ordered); !made) {
    give_back(*queue);
    free_numbers_.push_back(queue->number());
    return std::unexpected(std::move(made).error());
  }
  return queue;
}

/// Under registry_, unbound_ and the queue's mutex.
Result<void> EngineState::set_up(QueueState& queue, std::string name, WqFlags flags, int max_active, bool ordered) {
  queue.name_it(std::move(name), flags, ordered);
  queue.saved_max_active = ordered ? 1 : max_active == 0 ? kWqDefaultActive : max_active;
  if ((flags & kWqBh) != 0) queue.saved_max_active = INT32_MAX;  // one worker; nothing to limit
  queue.min_active = std::min(queue.saved_max_active, kWqDefaultMinActive);
  queue.attrs = WorkqueueAttrs{.nice = (flags & kWqHighpri) != 0 ? -20 : 0};
  queue.frozen = freezing_ && (flags & kWqFreezable) != 0;
  queue.drainers = 0;
  const std::size_t cpus = topology().cpus().size();
  if (!queue.by_cpu) queue.by_cpu = std::make_unique<platform::Atomic<PoolWorkqueue*>[]>(cpus);
  if ((flags & kWqUnbound) != 0) {
    if (!queue.nodes) queue.nodes = std::make_unique<NodeActive[]>(node_cpus_.size() + 1);
    queue.state.store(QueueState::kDead | QueueState::kUnbound, std::memory_order_relaxed);
    update_limits(queue);
    UPCI_TRY(install_pwqs(queue));
  } else {
    update_limits(queue);
    const std::size_t kind = ((flags & kWqHighpri) != 0 ? 1U : 0U) + ((flags & kWqBh) != 0 ? 2U : 0U);
    for (std::size_t i = 0; i < cpus; i++) {
      UPCI_TRY_ASSIGN(PoolWorkqueue * pwq, pwq_in(queue, *pools_[i * kPoolsPerCpu + kind]));
      queue.by_cpu[i].store(pwq, std::memory_order_release);
    }
  }
  if ((flags & kWqMemReclaim) != 0) {
    queue.rescuer = std::make_unique<Rescuer>(*this, queue);
    UPCI_TRY(queue.rescuer->start());
  }
  const std::uint32_t unbound = queue.state.load(std::memory_order_relaxed) & QueueState::kUnbound;
  queue.state.store(unbound, std::memory_order_release);
  return {};
}

/// The queue's pwq in a pool: the one that it has, used again, or a new one. Under the queue's mutex.
Result<PoolWorkqueue*> EngineState::pwq_in(QueueState& queue, WorkerPool& pool) {
  std::lock_guard flush_guard(queue.flush_mutex);
  auto found = std::ranges::find(queue.pwqs, &pool, [](const auto& pwq) { return pwq->pool; });
  if (found == queue.pwqs.end()) {
    queue.pwqs.push_back(std::make_unique<PoolWorkqueue>());
    // Once and for all: callers read them under no lock.
    queue.pwqs.back()->pool = &pool;
    queue.pwqs.back()->queue = &queue;
    found = queue.pwqs.end() - 1;
  } else if (queue.is_unbound()) {
    std::rotate(found, found + 1, queue.pwqs.end());  // now the newest
    found = queue.pwqs.end() - 1;
  }
  PoolWorkqueue& pwq = **found;
  std::lock_guard guard(pool.lock());
  pwq.node = nullptr;
  if (queue.is_unbound()) {
    const int node = queue.is_ordered() ? -1 : pool.identity().node;  // one limit, whatever its pool
    pwq.node = &queue.nodes[node >= 0 ? static_cast<std::size_t>(node) : node_cpus_.size()];
  }
  pwq.work_color = queue.work_color;
  pwq.retired = false;
  pool.install(pwq);
  return &pwq;
}

/// Takes a queue out of all pools. Under registry_, unbound_ and the queue's mutex; nothing of it is in flight.
void EngineState::give_back(QueueState& queue) noexcept {
  dependencies_.forget(queue);
  queue.rescuer.reset();
  const std::size_t cpus = topology().cpus().size();
  for (std::size_t i = 0; queue.by_cpu && i < cpus; i++) queue.by_cpu[i].store(nullptr, std::memory_order_seq_cst);
  while (queue.entering.load(std::memory_order_seq_cst) != 0) platform::this_thread::yield();
  for (const auto& pwq : queue.pwqs) {
    std::lock_guard guard(pwq->pool->lock());
    pwq->pool->take_inbox();
    pwq->retired = true;
    pwq->stats = {};
  }
  if (queue.is_unbound()) {
    sweep_retired(queue);
  } else {
    for (const auto& pwq : queue.pwqs) {
      std::lock_guard guard(pwq->pool->lock());
      pwq->pool->uninstall(queue.number());
    }
  }
  queue.state.store(QueueState::kDead, std::memory_order_release);
}

void EngineState::destroy(QueueState& queue) noexcept {
  const Worker* worker = Worker::current();
  if (worker != nullptr && worker->current_queue() == &queue) {
    report_caller(Report::Kind::kSelfFlush,
                  fmt::format("destroy_workqueue: called by an item of '{}' itself; the queue stays", queue.name()));
    return;
  }
  {
    std::lock_guard registry_guard(registry_);
    if (stopped_) return;  // everything was dropped when the engine ended
    // What is frozen could not be drained.
    std::lock_guard unbound_guard(unbound_);
    std::lock_guard guard(queue.mutex);
    queue.frozen = false;
    update_limits(queue);
  }
  dependencies_.note_wait(queue, "destroy_workqueue");
  drain(queue);
  queue.state.fetch_or(QueueState::kDead, std::memory_order_seq_cst);
  flush(queue);  // what slipped in between
  // Joined under no lock: as any worker, it may still want the queue's mutex (unplug()).
  std::unique_ptr<Rescuer> rescuer;
  {
    std::lock_guard guard(queue.mutex);
    rescuer = std::move(queue.rescuer);
  }
  rescuer.reset();
  std::lock_guard registry_guard(registry_);
  if (stopped_) return;
  std::lock_guard unbound_guard(unbound_);
  std::lock_guard guard(queue.mutex);
  give_back(queue);
  free_numbers_.push_back(queue.number());
}

QueueState* EngineState::checked(Workqueue& wq, const char* call) const {
  auto& queue = static_cast<QueueState&>(wq);
  if (&queue.engine != this) {
    report_caller(Report::Kind::kMisuse,
                  fmt::format("{}: workqueue '{}' belongs to another engine", call, queue.name()));
    return nullptr;
  }
  if ((queue.state.load(std::memory_order_acquire) & QueueState::kDead) != 0) {
    report_caller(Report::Kind::kMisuse, fmt::format("{}: the workqueue was destroyed before", call));
    return nullptr;
  }
  return &queue;
}

bool EngineState::is_system(const QueueState& queue) const noexcept {
  return std::ranges::find(system_, &queue) != system_.end();
}

Result<void> EngineState::create_system_queues() {
  struct Wanted {
    const char* name;
    WqFlags flags;
  };
  // The kernel's names and flags (workqueue_init_early), in the order of Engine's accessors.
  constexpr Wanted kWanted[] = {
      {"events", kWqPercpu},
      {"events_highpri", kWqHighpri | kWqPercpu},
      {"events_long", kWqPercpu},
      {"events_unbound", kWqUnbound},
      {"events_freezable", kWqFreezable | kWqPercpu},
      {"events_power_efficient", kWqPowerEfficient | kWqPercpu},
      {"events_freezable_power_efficient", kWqFreezable | kWqPowerEfficient | kWqPercpu},
      {"events_bh", kWqBh | kWqPercpu},
      {"events_bh_highpri", kWqBh | kWqHighpri | kWqPercpu},
  };
  for (std::size_t i = 0; i < std::size(kWanted); i++) {
    UPCI_TRY_ASSIGN(system_[i], allocate(kWanted[i].name, kWanted[i].flags, 0, false));
  }
  return {};
}

void WorkqueueDeleter::operator()(Workqueue* queue) const noexcept {
  if (queue != nullptr && engine) engine->destroy(static_cast<QueueState&>(*queue));
}

Result<WorkqueuePtr> Engine::alloc_workqueue(std::string name, WqFlags flags, int max_active) {
  if ((flags & kWqBh) != 0) UPCI_TRY(state_->start_bh());
  UPCI_TRY_ASSIGN(QueueState * queue, state_->allocate(std::move(name), flags, max_active, false));
  return WorkqueuePtr(queue, WorkqueueDeleter{state_});
}

Result<WorkqueuePtr> Engine::alloc_ordered_workqueue(std::string name, WqFlags flags) {
  UPCI_TRY_ASSIGN(QueueState * queue, state_->allocate(std::move(name), flags, 0, true));
  return WorkqueuePtr(queue, WorkqueueDeleter{state_});
}

}  // namespace upci::inline UPCI_VARIANT
