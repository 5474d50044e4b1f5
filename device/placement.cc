// SPDX-License-Identifier: Apache-2.0
#include "device/placement.h"

#include <fmt/format.h>

#include <mutex>
#include <vector>

namespace upci::inline UPCI_VARIANT::device {

std::string reason_against_node(int node, bool known, bool has_cpu) {
  if (node < 0) return "the device's NUMA node is unknown";
  if (!known) return fmt::format("the device's NUMA node {} is not in the topology", node);
  if (!has_cpu) return fmt::format("NUMA node {} has no housekeeping CPU", node);
  return {};
}

Place Placement::take(int node) {
  std::vector<int> cpus = topology_.housekeeping_cpus_of(node);
  Place place;
  place.inline_reason = reason_against_node(node, topology_.has_node(node), !cpus.empty());
  if (!place.inline_reason.empty()) cpus = topology_.housekeeping_cpus();

  const std::lock_guard lock(mutex_);
  const std::size_t first = turn_++ % cpus.size();
  place.cpu = cpus[first];
  for (std::size_t i = 1; i < cpus.size(); ++i) {
    const int cpu = cpus[(first + i) % cpus.size()];
    if (probes_[cpu] < probes_[place.cpu]) place.cpu = cpu;
  }
  ++probes_[place.cpu];
  return place;
}

void Placement::give_back(int cpu) noexcept {
  const std::lock_guard lock(mutex_);
  if (const auto it = probes_.find(cpu); it != probes_.end() && it->second > 0) --it->second;
}

}  // namespace upci::inline UPCI_VARIANT::device
