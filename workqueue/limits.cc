// SPDX-License-Identifier: Apache-2.0
// max_active and min_active while a queue runs, and freezing, which sets the limit to 0. Kernel: wq_adjust_max_active,
// wq_update_node_max_active, workqueue_set_max_active, freeze_workqueues_begin, thaw_workqueues.
#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

/// Puts the limit in force, and starts what it now allows. Under the queue's mutex; for an unbound one under unbound_, too.
void EngineState::update_limits(QueueState& queue) {
  const int limit = queue.frozen ? 0 : queue.saved_max_active;
  queue.max_active.store(limit, std::memory_order_relaxed);
  if (queue.is_unbound()) {
    // Each node gets its part of the limit, by its share of the CPUs that the queue may use now.
    const CpuSet allowed = allowed_cpus(queue);
    std::vector<int> cpus(node_cpus_.size());
    for (const Topology::Cpu& cpu : topology().cpus()) {
      const bool online = cpu_is_on_[static_cast<std::size_t>(cpu_index(cpu.id))];
      if (online && allowed.contains(cpu.id)) cpus[static_cast<std::size_t>(cpu.node)]++;
    }
    int total = 0;
    for (const int count : cpus) total += count;
    const int least = std::min(queue.min_active, limit);
    for (std::size_t i = 0; i <= node_cpus_.size(); i++) {
      const bool spans = i == node_cpus_.size();
      const int share = spans || total == 0 ? limit : (limit * cpus[i] + total - 1) / total;
      std::lock_guard guard(queue.nodes[i].lock);
      queue.nodes[i].max = std::clamp(share, least, limit);
    }
    for (std::size_t i = 0; i <= node_cpus_.size(); i++) hand_over(queue.nodes[i]);
  }
  for (const auto& pwq : queue.pwqs) {
    std::lock_guard guard(pwq->pool->lock());
    pwq->pool->activate_inactive(*pwq);
    pwq->pool->kick();
  }
}

Result<void> EngineState::set_limits(QueueState& queue, int max_active, int min_active) {
  std::lock_guard unbound_guard(unbound_);
  std::lock_guard guard(queue.mutex);
  if (queue.is_ordered()) {
    return fail(Errc::kInvalid, fmt::format("workqueue '{}' is ordered: its limit is 1", queue.name()));
  }
  if (queue.has(kWqBh)) return fail(Errc::kInvalid, fmt::format("workqueue '{}' runs bottom halves", queue.name()));
  const bool of_node = min_active != 0;
  if (of_node && !queue.is_unbound()) {
    return fail(Errc::kInvalid, fmt::format("workqueue '{}' is not unbound: it has no limit per node", queue.name()));
  }
  const int wanted = of_node ? min_active : max_active;
  if (wanted < 1 || wanted > kWqMaxActive) {
    return fail(Errc::kInvalid, fmt::format("{} {} of workqueue '{}' is not between 1 and {}",
                                            of_node ? "min_active" : "max_active", wanted, queue.name(), kWqMaxActive));
  }
  (of_node ? queue.min_active : queue.saved_max_active) = wanted;
  // As in the kernel: a lower limit lowers the least share for good.
  queue.min_active = std::min(queue.min_active, queue.saved_max_active);
  update_limits(queue);
  return {};
}

Result<void> Engine::set_max_active(Workqueue& wq, int max_active) {
  QueueState* queue = state_->checked(wq, "set_max_active");
  if (queue == nullptr) return fail(Errc::kState, "set_max_active of a workqueue that was destroyed");
  if (max_active == 0) return fail(Errc::kInvalid, "max_active 0", fmt::format("give 1 to {}", kWqMaxActive));
  return state_->set_limits(*queue, max_active, 0);
}

Result<void> Engine::set_min_active(Workqueue& wq, int min_active) {
  QueueState* queue = state_->checked(wq, "set_min_active");
  if (queue == nullptr) return fail(Errc::kState, "set_min_active of a workqueue that was destroyed");
  if (min_active == 0) return fail(Errc::kInvalid, "min_active 0", fmt::format("give 1 to {}", kWqMaxActive));
  return state_->set_limits(*queue, 0, min_active);
}

void EngineState::freeze(bool on) {
  std::lock_guard registry_guard(registry_);
  if (freezing_ == on) return;
  freezing_ = on;
  std::lock_guard unbound_guard(unbound_);
  for (const auto& queue : queues_) {
    std::lock_guard guard(queue->mutex);
    if ((queue->state.load(std::memory_order_relaxed) & QueueState::kDead) != 0 || !queue->has(kWqFreezable)) continue;
    queue->frozen = on;
    update_limits(*queue);
  }
}

bool EngineState::freezing_busy() {
  std::lock_guard registry_guard(registry_);
  return std::ranges::any_of(queues_, [](const auto& queue) {
    std::lock_guard guard(queue->mutex);
    if (!queue->frozen) return false;
    return std::ranges::any_of(queue->pwqs, [](const auto& pwq) {
      std::lock_guard pool_guard(pwq->pool->lock());
      return pwq->nr_active != 0;
    });
  });
}

void Engine::freeze_workqueues() { state_->freeze(true); }
bool Engine::freeze_workqueues_busy() { return state_->freezing_busy(); }
void Engine::thaw_workqueues() { state_->freeze(false); }

}  // namespace upci::inline UPCI_VARIANT
