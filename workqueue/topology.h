// SPDX-License-Identifier: Apache-2.0
// CPUs and NUMA nodes as the engine sees them.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace upci::inline UPCI_VARIANT {

/// Logical CPUs 0..n-1 and the nodes that they belong to. A value.
///
/// Real: the machine's, from hwloc; CPU and node numbers are the operating system's. Synthetic: from an hwloc synthetic
/// description such as "numa:2 core:4"; CPUs that the machine lacks are mapped onto the ones that it has (round robin), so
/// that the NUMA logic can be tested anywhere.
class Topology {
 public:
  struct Cpu {
    int id = 0;      // the number that callers use
    int os_cpu = 0;  // the CPU that its workers are pinned to
    int node = 0;
    int core = 0;              // CPUs with the same number share a core
    int cache = 0;             // CPUs with the same number share a last-level cache
    bool housekeeping = true;  // in the affinity mask, not isolated, not nohz_full
  };

  /// The machine, as hwloc and sysfs tell it. Errors: kUnavailable when hwloc cannot read the topology.
  static Result<Topology> detect();
  /// Errors: kInvalid when the description cannot be parsed.
  static Result<Topology> synthetic(const std::string& description);

  const std::vector<Cpu>& cpus() const noexcept { return cpus_; }
  const Cpu* find(int cpu) const noexcept;
  int nodes() const noexcept { return nodes_; }
  bool has_node(int node) const noexcept;
  /// The CPUs of a node that are housekeeping CPUs, ascending; empty when the node is unknown.
  std::vector<int> housekeeping_cpus_of(int node) const;
  /// All housekeeping CPUs, ascending. Never empty: when the machine has isolated all of them, all count.
  std::vector<int> housekeeping_cpus() const;
  bool is_synthetic() const noexcept { return synthetic_; }

 private:
  std::vector<Cpu> cpus_;
  int nodes_ = 0;
  bool synthetic_ = false;
};

}  // namespace upci::inline UPCI_VARIANT
