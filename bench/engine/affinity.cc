// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/affinity.h"

#include <sched.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace bench {

namespace {

void set_cpus(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (::sched_setaffinity(0, sizeof set, &set) == 0) return;
  std::perror("engine_bench: cannot pin a thread (sched_setaffinity)");
  std::exit(1);
}

}  // namespace

const std::vector<int>& machine_cpus() {
  static const std::vector<int> cpus = [] {
    std::vector<int> found;
    cpu_set_t set;
    CPU_ZERO(&set);
    ::sched_getaffinity(0, sizeof set, &set);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
      if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) found.push_back(cpu);
    }
    return found;
  }();
  return cpus;
}

int submitter_cpu() { return machine_cpus().front(); }
int worker_cpu() { return machine_cpus().back(); }

void pin(int cpu) { set_cpus({cpu}); }
void unpin() { set_cpus(machine_cpus()); }

}  // namespace bench
