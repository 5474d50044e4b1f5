// SPDX-License-Identifier: Apache-2.0
// Private. On which CPU a device is probed. Kernel: pci_call_probe.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "base/platform.h"
#include "workqueue/topology.h"

namespace upci::inline UPCI_VARIANT::device {

struct Place {
  int cpu = -1;
  std::string inline_reason;  // empty when the CPU belongs to the device's node
};

/// Why a device cannot be probed on its node, or "": whether the node is in the topology, and has a housekeeping CPU.
std::string reason_against_node(int node, bool known, bool has_cpu);

/// Thread-safe.
class Placement {
 public:
  explicit Placement(const Topology& topology) noexcept : topology_(topology) {}

  /// Of the housekeeping CPUs of the node the one with the fewest probes, in turn where several have as few. When the node
  /// has none (or is unknown) one of all housekeeping CPUs, so that the probe stays bounded, and why.
  Place take(int node);
  void give_back(int cpu) noexcept;

 private:
  const Topology& topology_;
  platform::Mutex mutex_;
  std::map<int, int> probes_;  // mutex_; by CPU: probes that were placed there and have not ended
  std::size_t turn_ = 0;       // mutex_
};

}  // namespace upci::inline UPCI_VARIANT::device
