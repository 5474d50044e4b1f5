// SPDX-License-Identifier: Apache-2.0
// What an Engine's handle, its workers and its pools share. Outlives the handle while a worker is stuck.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "workqueue/engine.h"
#include "workqueue/worker_pool.h"
#include "workqueue/workqueue.h"

namespace upci::inline UPCI_VARIANT {

/// All members are const after create(), but what their own rules say.
class EngineState : public std::enable_shared_from_this<EngineState> {
 public:
  explicit EngineState(Engine::Options options) : options_(std::move(options)) {}
  Result<void> create_pools();

  const Engine::Options& options() const noexcept { return options_; }
  const Topology& topology() const noexcept { return options_.topology; }
  Workqueue& system_wq() noexcept { return system_wq_; }
  Workqueue& system_highpri_wq() noexcept { return system_highpri_wq_; }
  Workqueue& system_long_wq() noexcept { return system_long_wq_; }

  const std::vector<std::unique_ptr<WorkerPool>>& pools() const noexcept { return pools_; }
  /// The pool by its number, or nullptr (-1, or a number that no pool has).
  WorkerPool* pool(int number) const noexcept {
    return number >= 0 && static_cast<std::size_t>(number) < pools_.size()
               ? pools_[static_cast<std::size_t>(number)].get()
               : nullptr;
  }
  /// The pool of a CPU for a workqueue, or nullptr when there is no such CPU.
  WorkerPool* pool_for(int cpu, const Workqueue& wq) const noexcept;
  /// The CPU of the calling thread in this topology; a housekeeping CPU when it is none of them.
  int local_cpu() const noexcept;
  /// A CPU of the node: the caller's own when it belongs to it, else the next in turn; any when the node has none.
  int cpu_of_node(int node) noexcept;
  /// Queues a work whose PENDING the caller owns. Kernel: __queue_work.
  void insert(int cpu, Workqueue& wq, Work& work) noexcept;

 private:
  const Engine::Options options_;
  Workqueue system_wq_{0, "events", Workqueue::Priority::kNormal};
  Workqueue system_highpri_wq_{1, "events_highpri", Workqueue::Priority::kHigh};
  Workqueue system_long_wq_{2, "events_long", Workqueue::Priority::kNormal};
  std::vector<std::unique_ptr<WorkerPool>> pools_;  // two for each CPU of the topology: normal, high priority
  std::vector<std::vector<int>> node_cpus_;         // by node: its housekeeping CPUs
  std::vector<int> cpu_of_os_;                      // by OS CPU: a CPU of the topology, or -1
  int fallback_cpu_ = 0;
  platform::Atomic<unsigned> turn_{0};  // atomic: spreads cpu_of_node
};

}  // namespace upci::inline UPCI_VARIANT
