// SPDX-License-Identifier: Apache-2.0
// Unbound workqueues: which pool serves which CPU, and changing that while items run. Kernel: apply_wqattrs_prepare,
// apply_wqattrs_commit, wq_calc_pod_cpumask, get_unbound_pool.
#include "workqueue/attributes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

namespace {

constexpr std::array<std::pair<AffinityScope, std::string_view>, 7> kScopes{
    {{AffinityScope::kDefault, "default"},
     {AffinityScope::kCpu, "cpu"},
     {AffinityScope::kSmt, "smt"},
     {AffinityScope::kCache, "cache"},
     {AffinityScope::kCacheShard, "cache_shard"},
     {AffinityScope::kNuma, "numa"},
     {AffinityScope::kSystem, "system"}}};

constexpr int kShardCores = 8;  // cores of one cache that share a pool, at most. Kernel: wq_cache_shard_size

}  // namespace

std::string_view to_string(AffinityScope scope) noexcept {
  return std::ranges::find(kScopes, scope, [](const auto& entry) { return entry.first; })->second;
}

Result<AffinityScope> parse_affinity_scope(std::string_view name) {
  const auto found = std::ranges::find(kScopes, name, [](const auto& entry) { return entry.second; });
  if (found != kScopes.end()) return found->first;
  return fail(Errc::kInvalid, fmt::format("'{}' is no affinity scope", name),
              "one of default, cpu, smt, cache, cache_shard, numa, system");
}

/// The CPUs that share workers with `cpu` in a scope.
CpuSet EngineState::pod_of(int cpu, AffinityScope scope) const {
  if (scope == AffinityScope::kDefault) scope = options_.default_scope;
  const Topology::Cpu& self = *topology().find(cpu);
  // A shard is a run of cores of one cache, numbered in the topology's order; all shards of a cache are about as large.
  const auto shard_of = [this](const Topology::Cpu& of) {
    std::vector<int> cores;
    for (const Topology::Cpu& other : topology().cpus()) {
      if (other.cache == of.cache && (cores.empty() || cores.back() != other.core)) cores.push_back(other.core);
    }
    const auto count = static_cast<int>(cores.size());
    const int shards = (count + kShardCores - 1) / kShardCores;
    const auto place = static_cast<int>(std::ranges::find(cores, of.core) - cores.begin());
    return place * shards / count;
  };
  CpuSet pod;
  for (const Topology::Cpu& other : topology().cpus()) {
    bool together = true;
    switch (scope) {
      case AffinityScope::kCpu: together = other.id == cpu; break;
      case AffinityScope::kSmt: together = other.core == self.core; break;
      case AffinityScope::kCacheShard: together = other.cache == self.cache && shard_of(other) == shard_of(self); break;
      case AffinityScope::kNuma: together = other.node == self.node; break;
      case AffinityScope::kSystem: break;
      case AffinityScope::kDefault:
      case AffinityScope::kCache: together = other.cache == self.cache; break;
    }
    if (together) pod.add(other.id);
  }
  return pod;
}

/// Where a queue's items may run now: what was asked for, as far as the engine allows it. Kernel: wqattrs_actualize_cpumask.
CpuSet EngineState::allowed_cpus(const QueueState& queue) const {
  if (queue.attrs.cpumask.empty()) return unbound_cpumask_;
  const CpuSet both = queue.attrs.cpumask & unbound_cpumask_;
  return both.empty() ? unbound_cpumask_ : both;
}

/// One more pool with these attributes: a retired one that has come to rest, or a new one. Under unbound_.
Result<WorkerPool*> EngineState::unbound_pool(const WorkerPool::Identity& identity) {
  WorkerPool* pool = nullptr;
  const auto rests = std::ranges::find_if(retired_pools_, [](WorkerPool* retired) { return retired->at_rest(); });
  if (rests != retired_pools_.end()) {
    pool = *rests;
    retired_pools_.erase(rests);
    pool->reuse(identity);
  } else {
    UPCI_TRY_ASSIGN(pool, add_pool(identity));
  }
  if (auto created = pool->create_worker(); !created) {
    pool->retire();
    retired_pools_.push_back(pool);
    return std::unexpected(std::move(created).error());
  }
  unbound_pools_.push_back(pool);
  return pool;
}

/// Chooses the pwq of each CPU by the queue's attributes and the CPUs that are online, and puts them in place. Nothing is
/// changed when a pool cannot be made. Under unbound_ and the queue's mutex.
Result<void> EngineState::install_pwqs(QueueState& queue) {
  if (stopped_) return fail(Errc::kState, "the engine is shutting down");
  const CpuSet allowed = allowed_cpus(queue);
  CpuSet online;
  for (const Topology::Cpu& cpu : topology().cpus()) {
    if (cpu_is_on_[static_cast<std::size_t>(cpu_index(cpu.id))]) online.add(cpu.id);
  }
  const auto identity_of = [&](const CpuSet& pod) {
    const std::vector<int> cpus = pod.list();
    int node = topology().find(cpus.front())->node;
    for (const int cpu : cpus) {
      if (topology().find(cpu)->node != node) node = -1;
    }
    return WorkerPool::Identity{.kind = WorkerPool::Kind::kUnbound,
                                .nice = queue.attrs.nice,
                                .cpus = queue.attrs.strict ? pod : allowed,
                                .pod = pod,
                                .strict = queue.attrs.strict,
                                .node = node};
  };
  const auto& cpus = topology().cpus();
  std::vector<WorkerPool*> pools(cpus.size());
  for (std::size_t i = 0; i < cpus.size(); i++) {
    // Callers on other CPUs, and all callers of an ordered queue, use the pool of everything that is allowed.
    CpuSet pod = allowed;
    if (!queue.is_ordered() && allowed.contains(cpus[i].id) && online.contains(cpus[i].id)) {
      pod = pod_of(cpus[i].id, queue.attrs.scope) & allowed & online;
    }
    const WorkerPool::Identity identity = identity_of(pod);
    const auto in_use = std::ranges::find_if(unbound_pools_, [&](WorkerPool* pool) {
      if (!pool->identity().same_attributes(identity)) return false;
      if (!queue.is_ordered()) return true;
      // Where older items of an ordered queue still are, newer ones would mix with them: they get a pool of their own.
      std::lock_guard guard(pool->lock());
      const PoolWorkqueue* older = pool->pwq_of(queue.number());
      return older == nullptr || !older->retired;
    });
    if (in_use != unbound_pools_.end()) {
      pools[i] = *in_use;
    } else {
      UPCI_TRY_ASSIGN(pools[i], unbound_pool(identity));
    }
  }

  for (const auto& pwq : queue.pwqs) {
    if (std::ranges::find(pools, pwq->pool) != pools.end()) continue;
    std::lock_guard guard(pwq->pool->lock());
    pwq->retired = true;
  }
  std::vector<PoolWorkqueue*> chosen(cpus.size());
  for (std::size_t i = 0; i < cpus.size(); i++) {
    const auto same = std::ranges::find_if(chosen, [&](PoolWorkqueue* pwq) { return pwq && pwq->pool == pools[i]; });
    if (same != chosen.end()) {
      chosen[i] = *same;
      continue;
    }
    const bool is_new =
        std::ranges::none_of(queue.pwqs, [&](const auto& pwq) { return pwq->pool == pools[i] && !pwq->retired; });
    UPCI_TRY_ASSIGN(chosen[i], pwq_in(queue, *pools[i]));
    if (queue.is_ordered() && is_new) {
      // Nothing of it starts before what is older.
      std::lock_guard guard(pools[i]->lock());
      chosen[i]->plugged = true;
    }
  }
  for (std::size_t i = 0; i < cpus.size(); i++) queue.by_cpu[i].store(chosen[i], std::memory_order_seq_cst);
  // Whoever looked up an old pwq has pushed once this is 0.
  while (queue.entering.load(std::memory_order_seq_cst) != 0) platform::this_thread::yield();
  update_limits(queue);
  if (queue.is_ordered()) unplug_locked(queue);
  sweep_retired(queue);
  return {};
}

/// Takes away pwqs that were replaced and have run dry, and retires pools that nobody uses. Under unbound_ and the queue's
/// mutex.
void EngineState::sweep_retired(QueueState& queue) {
  for (const auto& pwq : queue.pwqs) {
    WorkerPool& pool = *pwq->pool;
    bool unused = false;
    {
      std::lock_guard guard(pool.lock());
      if (!pwq->retired || pool.pwq_of(queue.number()) != pwq.get()) continue;
      // First the callers, then the inbox: one that saw its work run here may have pushed it since.
      if (queue.entering.load(std::memory_order_seq_cst) != 0) continue;
      pool.take_inbox();
      if (pwq->in_flight()) {
        pool.kick();
        continue;
      }
      pool.uninstall(queue.number());
      unused = !pool.has_pwqs();
    }
    if (!unused || std::erase(unbound_pools_, &pool) == 0) continue;
    pool.retire();
    retired_pools_.push_back(&pool);
  }
}

Result<void> EngineState::apply_attrs(QueueState& queue, WorkqueueAttrs attrs) {
  const auto bad = [&queue](std::string why) {
    return fail(Errc::kInvalid, fmt::format("attributes of workqueue '{}': {}", queue.name(), why));
  };
  if (!queue.is_unbound()) return bad("it is not unbound");
  if (attrs.nice < -20 || attrs.nice > 19) return bad(fmt::format("nice {} is not between -20 and 19", attrs.nice));
  if (!attrs.cpumask.empty() && (attrs.cpumask & all_cpus()).empty()) {
    return bad(fmt::format("none of the CPUs {} is there", attrs.cpumask.to_string()));
  }
  // The order of an ordered queue is that of its pwqs, each used once: those of earlier attributes must have run dry.
  if (queue.is_ordered()) {
    if (!may_wait_for(queue, "apply_workqueue_attrs")) {
      return fail(Errc::kState, "an item of an ordered workqueue cannot change its attributes");
    }
  }
  for (;;) {
    {
      std::lock_guard unbound_guard(unbound_);
      std::lock_guard guard(queue.mutex);
      sweep_retired(queue);
      const bool older = queue.is_ordered() && std::ranges::any_of(queue.pwqs, [&queue](const auto& pwq) {
                           std::lock_guard pool_guard(pwq->pool->lock());
                           return pwq->retired && pwq->pool->pwq_of(queue.number()) == pwq.get();
                         });
      if (!older) {
        WorkqueueAttrs before = std::exchange(queue.attrs, std::move(attrs));
        auto installed = install_pwqs(queue);
        if (!installed) queue.attrs = std::move(before);
        return installed;
      }
    }
    flush(queue);
  }
}

Result<void> EngineState::set_unbound_cpumask(CpuSet cpus) {
  if ((cpus & all_cpus()).empty()) {
    return fail(Errc::kInvalid, fmt::format("unbound cpumask '{}': none of these CPUs is there", cpus.to_string()));
  }
  std::lock_guard registry_guard(registry_);
  std::lock_guard unbound_guard(unbound_);
  unbound_cpumask_ = cpus & all_cpus();
  return reinstall_all();
}

/// After a change of the CPUs. Under registry_ and unbound_. A queue whose new pools cannot be made keeps the old ones.
Result<void> EngineState::reinstall_all() {
  Result<void> result;
  for (const auto& queue : queues_) {
    std::lock_guard guard(queue->mutex);
    if (!queue->is_unbound() || (queue->state.load(std::memory_order_relaxed) & QueueState::kDead) != 0) continue;
    sweep_retired(*queue);
    if (auto installed = install_pwqs(*queue); !installed && result) result = std::move(installed);
  }
  return result;
}

CpuSet EngineState::all_cpus() const {
  CpuSet all;
  for (const Topology::Cpu& cpu : topology().cpus()) all.add(cpu.id);
  return all;
}

Result<void> Engine::apply_workqueue_attrs(Workqueue& wq, WorkqueueAttrs attrs) {
  QueueState* queue = state_->checked(wq, "apply_workqueue_attrs");
  if (queue == nullptr) return fail(Errc::kState, "apply_workqueue_attrs on a workqueue that was destroyed");
  return state_->apply_attrs(*queue, std::move(attrs));
}

Result<WorkqueueAttrs> Engine::workqueue_attrs(const Workqueue& wq) const {
  auto* queue = state_->checked(const_cast<Workqueue&>(wq), "workqueue_attrs");
  if (queue == nullptr) return fail(Errc::kState, "workqueue_attrs of a workqueue that was destroyed");
  std::lock_guard guard(queue->mutex);
  return queue->attrs;
}

Result<void> Engine::set_unbound_cpumask(CpuSet cpus) { return state_->set_unbound_cpumask(std::move(cpus)); }

}  // namespace upci::inline UPCI_VARIANT
