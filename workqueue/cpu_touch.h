// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "workqueue/percpu_thread.h"
#include "workqueue/topology.h"

namespace upci::inline UPCI_VARIANT {

/// Tells whether a CPU runs anything of ours at all: a thread of each CPU answers when it is asked. So a report of a stalled
/// pool can say whether its item is stuck, or its CPU is kept busy by something else. Kernel: wq_watchdog_touch, called by
/// each CPU's lockup watchdog. One thread may ask.
///
/// A = atomic; C = const.
class CpuTouch {
 public:
  /// Errors: kSystem when a thread is refused.
  static Result<std::unique_ptr<CpuTouch>> create(const Topology& topology);

  /// Asks the CPU's thread to answer.
  void ask(int cpu) noexcept;
  /// One line about the latest question to the CPU; empty when there was none.
  std::string describe(int cpu) const;
  /// The CPU goes, or is back.
  void follow(int cpu, bool online);

 private:
  struct Cpu {
    int id = 0;                                                                // C
    platform::Atomic<std::uint32_t> asked{0};                                  // A: counts questions
    platform::Atomic<std::uint32_t> answered{0};                               // A: the last one that was answered
    platform::Atomic<platform::TimePoint> asked_at{platform::TimePoint{}};     // A
    platform::Atomic<platform::TimePoint> answered_at{platform::TimePoint{}};  // A
  };
  explicit CpuTouch(const Topology& topology);
  Cpu* find(int cpu) const noexcept;

  std::vector<std::unique_ptr<Cpu>> cpus_;  // C
  std::unique_ptr<PerCpuThread> threads_;   // C; ends first
};

}  // namespace upci::inline UPCI_VARIANT
