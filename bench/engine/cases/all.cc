// SPDX-License-Identifier: Apache-2.0
#include <iterator>
#include <utility>

#include "bench/engine/case.h"

namespace bench {

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
