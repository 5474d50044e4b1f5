// SPDX-License-Identifier: Apache-2.0
#include "workqueue/snapshot.h"

#include <mutex>

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

namespace {

std::uint64_t length(WorkList& list) {
  std::uint64_t count = 0;
  for (WorkNode* at = list.begin(); at != list.end(); at = at->next) count++;
  return count;
}

}  // namespace

PoolSnapshot WorkerPool::snapshot(bool names) {
  PoolSnapshot shot;
  std::vector<WorkFunction> functions;
  {
    std::lock_guard guard(lock_);
    take_inbox();
    kick();
    shot.number = number_;
    shot.kind = identity_.kind == Kind::kUnbound ? "unbound" : is_bh() ? "bh" : "percpu";
    shot.cpu = cpu();
    shot.cpus = identity_.cpus.to_string();
    shot.pod = identity_.pod.to_string();
    shot.nice = identity_.nice;
    shot.node = identity_.node;
    shot.cpu_away = disassociated_ || away_;
    shot.workers = nr_workers_;
    shot.idle = nr_idle_.load(std::memory_order_relaxed);
    shot.running = nr_running_.load(std::memory_order_relaxed);
    shot.waiting = length(worklist_);
    if (shot.waiting != 0) shot.watchdog_age = platform::Clock::now() - stalled_since_.load(std::memory_order_relaxed);
    shot.stats = stats_;
    for (Worker* bucket : busy_) {
      for (Worker* worker = bucket; worker != nullptr; worker = worker->next_busy_) {
        shot.busy.push_back({.name = thread_name(worker->id_),
                             .thread = worker->thread_id_,
                             .workqueue = worker->current_pwq_ != nullptr ? worker->current_queue()->name() : "",
                             .description = worker->description_,
                             .sleeping = worker->sleeping_,
                             .counts = worker->counts_});
        if (names) functions.push_back(worker->current_function_);
      }
    }
  }
  // Slow: under no lock.
  for (std::size_t i = 0; i < functions.size(); i++) shot.busy[i].function = name_function(functions[i]);
  return shot;
}

WorkqueueSnapshot QueueState::snapshot() {
  WorkqueueSnapshot shot;
  std::lock_guard guard(mutex);
  shot.number = number();
  shot.name = name();
  shot.flags = flags();
  shot.ordered = is_ordered();
  shot.frozen = frozen;
  shot.draining = drainers != 0;
  shot.max_active = saved_max_active;
  shot.min_active = is_unbound() ? min_active : 0;
  shot.attrs = attrs;
  for (const auto& pwq : pwqs) {
    std::lock_guard pool_guard(pwq->pool->lock());
    pwq->pool->take_inbox();
    pwq->pool->kick();
    PwqSnapshot one{.pool = pwq->pool->number(), .active = pwq->nr_active, .inactive = length(pwq->inactive)};
    for (const int count : pwq->nr_in_flight) one.in_flight += count;
    shot.total += pwq->stats.started;
    shot.in_flight += static_cast<std::uint64_t>(one.in_flight);
    shot.cpu_time += pwq->stats.cpu_time;
    shot.cpu_intensive += pwq->stats.cpu_intensive;
    shot.cm_wakeups += pwq->stats.cm_wakeups;
    shot.repatriated += pwq->stats.repatriated;
    shot.mayday += pwq->stats.mayday;
    shot.rescued += pwq->stats.rescued;
    shot.pwqs.push_back(one);
  }
  return shot;
}

EngineSnapshot EngineSnapshot::take(EngineState& engine, bool names) {
  EngineSnapshot shot;
  shot.tier = to_string(engine.options().blocking);
  shot.tier_note = engine.blocking_note();
  {
    std::lock_guard guard(engine.unbound_);
    shot.unbound_cpumask = engine.unbound_cpumask_.to_string();
  }
  engine.for_each_pool([&](WorkerPool& pool) { shot.pools.push_back(pool.snapshot(names)); });
  for (QueueState* queue : engine.queues()) shot.workqueues.push_back(queue->snapshot());
  shot.measures_latency = engine.measures_latency();
  shot.latencies = engine.latencies();
  return shot;
}

EngineSnapshot Engine::snapshot(bool names) const { return EngineSnapshot::take(*state_, names); }

}  // namespace upci::inline UPCI_VARIANT
