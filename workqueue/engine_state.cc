// SPDX-License-Identifier: Apache-2.0
#include "workqueue/engine_state.h"

#include <algorithm>
#include <mutex>

namespace upci::inline UPCI_VARIANT {

Result<void> EngineState::create_pools() {
  const auto& cpus = topology().cpus();
  int number = 0;
  for (const Topology::Cpu& cpu : cpus) {
    for (const auto priority : {Workqueue::Priority::kNormal, Workqueue::Priority::kHigh}) {
      UPCI_TRY_ASSIGN(auto pool, WorkerPool::create(*this, number++, cpu, priority));
      pools_.push_back(std::move(pool));
    }
    const auto os_cpu = static_cast<std::size_t>(cpu.os_cpu);
    if (cpu_of_os_.size() <= os_cpu) cpu_of_os_.resize(os_cpu + 1, -1);
    // Of several CPUs that are mapped onto one of the machine's, callers on it use the first.
    if (cpu_of_os_[os_cpu] < 0) cpu_of_os_[os_cpu] = cpu.id;
  }
  for (const Topology::Cpu& cpu : cpus) {
    const auto node = static_cast<std::size_t>(cpu.node);
    if (node_cpus_.size() <= node) node_cpus_.resize(node + 1);
    if (cpu.housekeeping) node_cpus_[node].push_back(cpu.id);
  }
  fallback_cpu_ = topology().housekeeping_cpus().front();
  // Only now: a worker may queue on any pool.
  for (const auto& pool : pools_) UPCI_TRY(pool->create_worker());
  return {};
}

WorkerPool* EngineState::pool_for(int cpu, const Workqueue& wq) const noexcept {
  const auto& cpus = topology().cpus();
  for (std::size_t i = 0; i < cpus.size(); i++) {
    if (cpus[i].id == cpu) return pools_[2 * i + (wq.priority() == Workqueue::Priority::kHigh ? 1 : 0)].get();
  }
  return nullptr;
}

int EngineState::local_cpu() const noexcept {
  if (const Worker* worker = Worker::current(); worker != nullptr && &worker->pool().engine() == this) {
    return worker->pool().cpu();
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

void EngineState::insert(int cpu, Workqueue& wq, Work& work) noexcept {
  WorkerPool* pool = pool_for(cpu, wq);
  // Where it ran last it may still run: then it goes there, whatever CPU is asked for (rule 5).
  WorkerPool* last = this->pool(WorkAccess::pool_of(WorkAccess::data(work).load(std::memory_order_relaxed)));
  if (last != nullptr && last != pool) {
    std::lock_guard guard(last->lock());
    const Worker* worker = last->find_worker_executing(work);
    if (worker != nullptr && WorkerPool::current_workqueue(*worker) == wq.number()) {
      last->insert(work, wq.number());
      return;
    }
  }
  std::lock_guard guard(pool->lock());
  pool->insert(work, wq.number());
}

}  // namespace upci::inline UPCI_VARIANT
