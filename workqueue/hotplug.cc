// SPDX-License-Identifier: Apache-2.0
// CPUs that go and come. Kernel: workqueue_offline_cpu, unbind_workers, workqueue_online_cpu, rebind_workers.
#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "base/log.h"
#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

/// From now on its workers are as those of an unbound pool: nobody's concurrency is managed, and they run anywhere.
void WorkerPool::disassociate(bool told) noexcept {
  std::lock_guard guard(lock_);
  told_ = told;
  if (disassociated_) return;
  disassociated_ = true;
  for (const auto& worker : workers_) stop_counting(*worker);
  kick();
}

/// Each worker pins itself again before it works the next time. Those that run an item count only from their next one on:
/// several may be running.
void WorkerPool::rebind() noexcept {
  std::lock_guard guard(lock_);
  if (disassociated_) bind_again();
}

void WorkerPool::bind_again() noexcept {
  disassociated_ = false;
  for (Worker* bucket : busy_) {
    for (Worker* worker = bucket; worker != nullptr; worker = worker->next_busy_) worker->rebound_ = true;
  }
  kick();
}

Result<void> EngineState::set_cpu_online(int cpu, bool online, bool told) {
  if (cpu_index(cpu) < 0) return fail(Errc::kInvalid, fmt::format("CPU {} does not exist", cpu));
  {
    std::lock_guard guard(unbound_);
    if (!online && std::ranges::count(cpu_is_on_, true) == 1 && cpu_is_on_[static_cast<std::size_t>(cpu_index(cpu))]) {
      return fail(Errc::kInvalid, fmt::format("CPU {} is the last one", cpu));
    }
  }
  // As in the kernel, the pools are there before others that come up, and go after them. Nobody can veto what the machine
  // does, so an error of a callback is only passed on.
  Result<void> result;
  if (!online) result = hotplug_.cpu_offline(cpu);
  if (auto moved = move_pools(cpu, online, told); !moved) result = std::move(moved);
  if (online) result = hotplug_.cpu_online(cpu);
  return result;
}

Result<void> EngineState::move_pools(int cpu, bool online, bool told) {
  std::lock_guard registry_guard(registry_);
  std::lock_guard unbound_guard(unbound_);
  const auto place = static_cast<std::size_t>(cpu_index(cpu));
  if (cpu_is_on_[place] == online) return {};
  cpu_is_on_[place] = online;
  for (std::size_t i = 0; i < kPoolsPerCpu; i++) {
    WorkerPool& pool = *pools_[place * kPoolsPerCpu + i];
    online ? pool.rebind() : pool.disassociate(told);
  }
  log::info("CPU {} is {}", cpu,
            online ? "back: its workers are bound to it again" : "gone: its workers go on elsewhere");
  return reinstall_all();
}

bool EngineState::is_online(int cpu) const {
  std::lock_guard guard(unbound_);
  const int index = cpu_index(cpu);
  return index >= 0 && cpu_is_on_[static_cast<std::size_t>(index)];
}

void EngineState::follow_cpus() {
  const std::vector<int> now = platform::online_cpus();
  if (now == seen_cpus_) return;
  // A synthetic topology maps several CPUs onto one of the machine's: all of them go with it.
  for (const Topology::Cpu& cpu : topology().cpus()) {
    const bool before = std::ranges::binary_search(seen_cpus_, cpu.os_cpu);
    const bool after = std::ranges::binary_search(now, cpu.os_cpu);
    if (before == after) continue;
    if (auto changed = set_cpu_online(cpu.id, after, false); !changed) log::warn("{}", changed.error().message());
  }
  seen_cpus_ = now;
}

Result<void> Engine::cpu_offline(int cpu) { return state_->set_cpu_online(cpu, false, true); }
Result<void> Engine::cpu_online(int cpu) { return state_->set_cpu_online(cpu, true, true); }

}  // namespace upci::inline UPCI_VARIANT
