// SPDX-License-Identifier: Apache-2.0
#include "workqueue/engine_state.h"

#include <algorithm>
#include <mutex>

#include "workqueue/latency_table.h"
#include "workqueue/lifetime.h"
#include "workqueue/rescuer.h"

namespace upci::inline UPCI_VARIANT {

namespace {

DependencyTracking tracking(const Engine::Options& options) noexcept {
  if (options.track_dependencies != DependencyTracking::kDefault) return options.track_dependencies;
#if defined(NDEBUG)
  return DependencyTracking::kWaits;
#else
  return DependencyTracking::kCompletions;
#endif
}

}  // namespace

EngineState::EngineState(Engine::Options options, std::string blocking_note)
    : options_(std::move(options)),
      blocking_note_(std::move(blocking_note)),
      pools_(std::make_unique<std::unique_ptr<WorkerPool>[]>(kMaxPools)),
      seen_cpus_(platform::online_cpus()),
      hotplug_(topology()),
      dependencies_(*this, tracking(options_) != DependencyTracking::kOff,
                    tracking(options_) == DependencyTracking::kCompletions),
      rcu_(*this),
      overseer_(*this) {
  const auto& cpus = topology().cpus();
  for (std::size_t i = 0; i < cpus.size(); i++) {
    const Topology::Cpu& cpu = cpus[i];
    const auto id = static_cast<std::size_t>(cpu.id);
    if (index_of_cpu_.size() <= id) index_of_cpu_.resize(id + 1, -1);
    index_of_cpu_[id] = static_cast<int>(i);
    const auto os_cpu = static_cast<std::size_t>(cpu.os_cpu);
    if (cpu_of_os_.size() <= os_cpu) cpu_of_os_.resize(os_cpu + 1, -1);
    // Of several CPUs that are mapped onto one of the machine's, callers on it use the first.
    if (cpu_of_os_[os_cpu] < 0) cpu_of_os_[os_cpu] = cpu.id;
    const auto node = static_cast<std::size_t>(cpu.node);
    if (node_cpus_.size() <= node) node_cpus_.resize(node + 1);
    if (cpu.housekeeping) node_cpus_[node].push_back(cpu.id);
    if (std::ranges::find(os_cpus_, cpu.os_cpu) == os_cpus_.end()) os_cpus_.push_back(cpu.os_cpu);
  }
  fallback_cpu_ = topology().housekeeping_cpus().front();
  unbound_cpumask_ = all_cpus();
  cpu_is_on_.assign(cpus.size(), true);
  if (options_.keep_requesters) notes_.set(NoteSwitch::kRequesters);
  if (options_.measure_latency) measure_latency(true);
}

EngineState::~EngineState() { lifetime::forget(*this); }

Result<void> EngineState::start() {
  UPCI_TRY(create_pools());
  UPCI_TRY(create_system_queues());
  // Only now: a worker may queue on any pool.
  for (std::size_t i = 0; i < topology().cpus().size(); i++) {
    UPCI_TRY(percpu_pool(static_cast<int>(i), false).create_worker());
    UPCI_TRY(percpu_pool(static_cast<int>(i), true).create_worker());
  }
  return overseer_.start();
}

std::size_t EngineState::stop(Deadline deadline) {
  {
    // Both: from here on neither queues nor pools are added.
    std::lock_guard registry_guard(registry_);
    std::lock_guard unbound_guard(unbound_);
    stopped_ = true;
    for_each_pool([](WorkerPool& pool) { pool.stop(); });
    for (const auto& queue : queues_) {
      if (queue->rescuer) queue->rescuer->stop();
    }
  }
  rcu_.stop();
  overseer_.stop();
  std::size_t stuck = 0;
  for_each_pool([&](WorkerPool& pool) { stuck += pool.join(deadline); });
  for (const auto& queue : queues_) {
    if (queue->rescuer && !queue->rescuer->join(deadline)) stuck++;
  }
  if (!overseer_.join(deadline)) stuck++;
  return stuck;
}

Result<WorkerPool*> EngineState::add_pool(WorkerPool::Identity identity) {
  const std::size_t number = pool_count_.load(std::memory_order_relaxed);
  if (number == kMaxPools) return fail(Errc::kUnavailable, "too many worker pools", "use fewer different attributes");
  UPCI_TRY_ASSIGN(pools_[number], WorkerPool::create(*this, static_cast<int>(number), std::move(identity)));
  // Release pairs with pool_count(): who sees the number sees the pool.
  pool_count_.store(number + 1, std::memory_order_release);
  return pools_[number].get();
}

Result<void> EngineState::create_pools() {
  using Kind = WorkerPool::Kind;
  std::lock_guard guard(unbound_);
  int index = 0;
  for (const Topology::Cpu& cpu : topology().cpus()) {
    for (const Kind kind : {Kind::kPercpu, Kind::kBh}) {
      for (const int nice : {0, -20}) {
        UPCI_TRY(add_pool({.kind = kind, .cpu = cpu, .cpu_index = index, .nice = nice, .node = cpu.node}));
      }
    }
    index++;
  }
  return {};
}

/// Bottom-half workers are made when the first queue that wants them is used.
Result<void> EngineState::start_bh() {
  std::lock_guard guard(unbound_);
  if (bh_started_) return {};
  for (std::size_t i = 0; i < topology().cpus().size(); i++) {
    for (std::size_t kind = 2; kind < kPoolsPerCpu; kind++) {
      WorkerPool& pool = *pools_[i * kPoolsPerCpu + kind];
      if (pool.at_rest()) UPCI_TRY(pool.create_worker());
    }
  }
  bh_started_ = true;
  return {};
}

void EngineState::want_bh() noexcept {
  if (const auto started = start_bh(); started) return;
  for (std::size_t i = 0; i < topology().cpus().size(); i++) {
    for (std::size_t kind = 2; kind < kPoolsPerCpu; kind++) pools_[i * kPoolsPerCpu + kind]->note_lack();
  }
  overseer_.call();
}

std::vector<QueueState*> EngineState::queues() const {
  std::lock_guard guard(registry_);
  std::vector<QueueState*> alive;
  for (const auto& queue : queues_) {
    if ((queue->state.load(std::memory_order_relaxed) & QueueState::kDead) == 0) alive.push_back(queue.get());
  }
  return alive;
}

}  // namespace upci::inline UPCI_VARIANT
