// SPDX-License-Identifier: Apache-2.0
// Simulated CPUs: which are online, and on which one a fiber is. They do not run in parallel; they are only numbers.
#include <algorithm>

#include "base/platform/sim_scheduler.h"

namespace upci::inline UPCI_VARIANT::platform::sim::detail {

bool Scheduler::cpu_online(int cpu) const noexcept {
  return cpu >= 0 && static_cast<std::size_t>(cpu) < cpu_online_.size() && cpu_online_[static_cast<std::size_t>(cpu)];
}

std::vector<int> Scheduler::online() const {
  std::vector<int> cpus;
  for (std::size_t cpu = 0; cpu < cpu_online_.size(); ++cpu) {
    if (cpu_online_[cpu]) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

void Scheduler::set_online(int cpu, bool online) noexcept {
  if (cpu < 0 || static_cast<std::size_t>(cpu) >= cpu_online_.size()) return;
  const auto place = static_cast<std::size_t>(cpu);
  cpu_online_[place] = online;
  // One CPU is always left, as on a real machine.
  if (std::none_of(cpu_online_.begin(), cpu_online_.end(), [](bool on) { return on; })) cpu_online_[place] = true;
}

int Scheduler::current_cpu() noexcept {
  Fiber& fiber = *current_;
  if (fiber.pinned >= 0 && cpu_online(fiber.pinned)) return fiber.cpu = fiber.pinned;
  std::vector<int> cpus;
  for (const int cpu : online()) {
    if (fiber.allowed.empty() || std::ranges::find(fiber.allowed, cpu) != fiber.allowed.end()) cpus.push_back(cpu);
  }
  if (cpus.empty()) cpus = online();  // all that it may use are gone: the kernel lets it run anywhere
  // It is where it was, unless it has been moved meanwhile, which may happen at any time.
  const bool may_stay = std::ranges::find(cpus, fiber.cpu) != cpus.end();
  if (!may_stay || (!exploring() && random_.below(4) == 0)) fiber.cpu = cpus[pick(cpus.size())];
  return fiber.cpu;
}

}  // namespace upci::inline UPCI_VARIANT::platform::sim::detail
