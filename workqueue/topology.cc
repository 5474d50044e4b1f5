// SPDX-License-Identifier: Apache-2.0
#include "workqueue/topology.h"

#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <memory>
#include <set>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

namespace {

struct HwlocDeleter {
  void operator()(hwloc_topology* topology) const noexcept { hwloc_topology_destroy(topology); }
};
using HwlocTopology = std::unique_ptr<hwloc_topology, HwlocDeleter>;

Result<HwlocTopology> hwloc_init() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return fail(Errc::kUnavailable, "hwloc could not be initialised");
  return HwlocTopology(raw);
}

struct Pu {
  int os_index = 0;
  int node = 0;
  int core = 0;
  int cache = 0;
};

/// The last-level cache above a processing unit; where hwloc knows none, its package stands for it.
hwloc_obj_t last_level_cache(hwloc_obj_t pu) {
  hwloc_obj_t last = nullptr;
  hwloc_obj_t package = nullptr;
  for (hwloc_obj_t at = pu; at != nullptr; at = at->parent) {
    if (hwloc_obj_type_is_dcache(at->type) != 0 && at->attr->cache.depth >= 2) last = at;
    if (at->type == HWLOC_OBJ_PACKAGE) package = at;
  }
  return last != nullptr ? last : package;
}

std::vector<Pu> processing_units(hwloc_topology_t topology) {
  std::vector<Pu> units;
  for (hwloc_obj_t pu = nullptr; (pu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, pu)) != nullptr;) {
    // A CPU without memory of its own belongs to the nearest node that has some.
    hwloc_obj_t holder = pu;
    while (holder != nullptr && (holder->nodeset == nullptr || hwloc_bitmap_first(holder->nodeset) < 0)) {
      holder = holder->parent;
    }
    const int node = holder != nullptr ? hwloc_bitmap_first(holder->nodeset) : 0;
    const hwloc_obj* core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, pu);
    const hwloc_obj* cache = last_level_cache(pu);
    units.push_back({.os_index = static_cast<int>(pu->os_index),
                     .node = std::max(node, 0),
                     .core = static_cast<int>(core != nullptr ? core->logical_index : pu->logical_index),
                     // Without a cache or package: the node, numbered so that it is no cache's number.
                     .cache = cache != nullptr ? static_cast<int>(cache->logical_index) : -1 - std::max(node, 0)});
  }
  return units;
}

/// "0-3,8": as in /sys/devices/system/cpu/isolated. What cannot be read or parsed isolates nothing.
std::set<int> read_cpu_list(const char* path) {
  std::set<int> cpus;
  std::ifstream file(path);
  std::string range;
  while (std::getline(file, range, ',')) {
    int first = 0;
    const char* end = range.data() + range.size();
    auto [rest, error] = std::from_chars(range.data(), end, first);
    if (error != std::errc()) continue;
    int last = first;
    if (rest != end && *rest == '-') std::from_chars(rest + 1, end, last);
    for (int cpu = first; cpu <= last && cpu - first < 65536; cpu++) cpus.insert(cpu);
  }
  return cpus;
}

}  // namespace

Result<Topology> Topology::detect() {
  UPCI_TRY_ASSIGN(HwlocTopology hwloc, hwloc_init());
  if (hwloc_topology_load(hwloc.get()) != 0)
    return fail(Errc::kUnavailable, "hwloc could not read this machine's topology");
  const std::vector<int> allowed = platform::online_cpus();
  const std::set<int> isolated = read_cpu_list("/sys/devices/system/cpu/isolated");
  const std::set<int> nohz_full = read_cpu_list("/sys/devices/system/cpu/nohz_full");
  Topology topology;
  for (const Pu& pu : processing_units(hwloc.get())) {
    if (!std::ranges::binary_search(allowed, pu.os_index)) continue;
    const bool housekeeping = !isolated.contains(pu.os_index) && !nohz_full.contains(pu.os_index);
    topology.cpus_.push_back({.id = pu.os_index,
                              .os_cpu = pu.os_index,
                              .node = pu.node,
                              .core = pu.core,
                              .cache = pu.cache,
                              .housekeeping = housekeeping});
    topology.nodes_ = std::max(topology.nodes_, pu.node + 1);
  }
  std::ranges::sort(topology.cpus_, {}, &Cpu::id);
  if (topology.cpus_.empty()) return fail(Errc::kUnavailable, "hwloc shows no CPU that this process may run on");
  return topology;
}

Result<Topology> Topology::synthetic(const std::string& description) {
  UPCI_TRY_ASSIGN(HwlocTopology hwloc, hwloc_init());
  // hwloc wants processing units at the end; a description of cores alone means one each.
  const bool has_units = description.find("pu:") != std::string::npos || description.find("PU:") != std::string::npos;
  const std::string full = has_units ? description : description + " pu:1";
  if (description.empty() || hwloc_topology_set_synthetic(hwloc.get(), full.c_str()) != 0 ||
      hwloc_topology_load(hwloc.get()) != 0) {
    return fail(Errc::kInvalid, fmt::format("synthetic topology '{}' is none that hwloc understands", description),
                "write for example 'numa:2 core:4': two nodes with four CPUs each");
  }
  const std::vector<int> os_cpus = platform::online_cpus();
  if (os_cpus.empty()) return fail(Errc::kUnavailable, "no CPU to map a synthetic topology onto");
  Topology topology;
  topology.synthetic_ = true;
  for (const Pu& pu : processing_units(hwloc.get())) {
    const int id = static_cast<int>(topology.cpus_.size());
    const int os_cpu = os_cpus[static_cast<std::size_t>(id) % os_cpus.size()];
    topology.cpus_.push_back({.id = id, .os_cpu = os_cpu, .node = pu.node, .core = pu.core, .cache = pu.cache});
    topology.nodes_ = std::max(topology.nodes_, pu.node + 1);
  }
  return topology;
}

const Topology::Cpu* Topology::find(int cpu) const noexcept {
  const auto found = std::ranges::find(cpus_, cpu, &Cpu::id);
  return found != cpus_.end() ? &*found : nullptr;
}

bool Topology::has_node(int node) const noexcept {
  return std::ranges::any_of(cpus_, [node](const Cpu& cpu) { return cpu.node == node; });
}

std::vector<int> Topology::housekeeping_cpus_of(int node) const {
  std::vector<int> cpus;
  for (const Cpu& cpu : cpus_) {
    if (cpu.node == node && cpu.housekeeping) cpus.push_back(cpu.id);
  }
  return cpus;
}

std::vector<int> Topology::housekeeping_cpus() const {
  std::vector<int> cpus;
  for (const Cpu& cpu : cpus_) {
    if (cpu.housekeeping) cpus.push_back(cpu.id);
  }
  if (cpus.empty()) {
    for (const Cpu& cpu : cpus_) cpus.push_back(cpu.id);
  }
  return cpus;
}

}  // namespace upci::inline UPCI_VARIANT
