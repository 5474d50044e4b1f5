// SPDX-License-Identifier: Apache-2.0
// Which CPUs a benchmark may use, and pinning to them.
#pragma once

#include <vector>

namespace bench {

/// The CPUs that the process was started on, ascending.
const std::vector<int>& machine_cpus();
/// The CPU of whoever submits, and the CPU of the worker: a pair that all contestants and floors use alike.
int submitter_cpu();
int worker_cpu();

/// Pins the calling thread. Ends the program where the kernel refuses, since nothing measured then would be equal.
void pin(int cpu);
/// Lets the calling thread run on all CPUs again.
void unpin();

/// Pins the calling thread for as long as it lives.
class PinScope {
 public:
  explicit PinScope(int cpu) { pin(cpu); }
  ~PinScope() { unpin(); }
  PinScope(const PinScope&) = delete;
  PinScope& operator=(const PinScope&) = delete;
};

}  // namespace bench
