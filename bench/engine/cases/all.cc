// SPDX-License-Identifier: Apache-2.0
#include <iterator>
#include <utility>

#include "bench/engine/case.h"
#include "bench/engine/peers/pool.h"

namespace bench {

const char* const kDescription = "Measures the workqueue engine beside other thread pools, by turns in one run.";

std::vector<PeerVersion> peer_versions() {
  std::vector<PeerVersion> versions;
  for (const auto& kinds : {peer_pools(), floor_pools()}) {
    for (const PoolKind& kind : kinds) versions.push_back({.name = kind.name, .version = kind.version});
  }
  return versions;
}
std::vector<std::string> missing_packages() { return missing_peers(); }

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto& make : {throughput_cases, start_latency_cases, blocked_cases, work_on_cpu_cases, flush_cases,
                           delayed_cases, interrupt_cases, requeue_cases, scale_cases, memory_cases}) {
    std::vector<Case> some = make();
    std::move(some.begin(), some.end(), std::back_inserter(cases));
  }
  return cases;
}

}  // namespace bench
