// SPDX-License-Identifier: Apache-2.0
// What a sample cost besides time: CPU seconds, waiting on run queues, and how busy others kept the machine meanwhile.
#pragma once

#include <cstdint>

namespace bench {

/// Differences between two moments, of this process and all its threads that live at the second one.
struct Usage {
  double seconds = 0;       // wall clock
  double cpu_seconds = 0;   // user and system time of the process
  double wait_seconds = 0;  // time its threads could have run and waited for a CPU (schedstat)
  double others = 0;        // share of the machine's CPU time that other processes (and the hypervisor) took, 0..1
  double steal = 0;         // of these, what the hypervisor took, as a share of the machine's time
  std::uint64_t voluntary_switches = 0;
};

class Meter {
 public:
  /// Takes the first moment.
  Meter() noexcept;
  /// Takes the second.
  Usage read() const noexcept;

 private:
  struct Moment {
    double wall = 0, cpu = 0, wait = 0, machine_busy = 0, machine_total = 0, stolen = 0;
    std::uint64_t switches = 0;
  };
  static Moment now() noexcept;
  Moment start_;
};

}  // namespace bench
