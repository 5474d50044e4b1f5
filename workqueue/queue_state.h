// SPDX-License-Identifier: Apache-2.0
// The engine's side of a Workqueue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/wait.h"
#include "workqueue/pool_workqueue.h"
#include "workqueue/workqueue.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;
class Rescuer;
struct WorkqueueSnapshot;

/// One caller of flush_workqueue, on its stack. F = the queue's flush mutex.
struct Flusher {
  int color = 0;            // F
  Flusher* next = nullptr;  // F
  Completion done;          // its own rules
};

/// M = mutex; F = flush_mutex; A = atomic; C = const while allocated. Lock order: mutex, flush_mutex, a pool's lock, a
/// NodeActive's lock; of pools' locks and of NodeActives' locks at most one each.
///
/// The object stays as long as the engine does, so that a stale handle is found out instead of followed: a destroyed one
/// has kDead set, and is used again for a new workqueue only after many others.
class QueueState final : public Workqueue {
 public:
  // State flags, read by each queueing.
  static constexpr std::uint32_t kDead = 1;      // not allocated, or destroyed
  static constexpr std::uint32_t kDraining = 2;  // takes only what its own items queue
  static constexpr std::uint32_t kUnbound = 4;   // C: queueing goes through `pods`

  QueueState(EngineState& owner, int number);
  ~QueueState();

  bool has(WqFlags flag) const noexcept { return (flags_ & flag) != 0; }
  bool is_unbound() const noexcept { return (state.load(std::memory_order_relaxed) & kUnbound) != 0; }
  bool is_frozen() const noexcept { return max_active.load(std::memory_order_relaxed) == 0; }
  WorkqueueSnapshot snapshot();
  void name_it(std::string new_name, WqFlags new_flags, bool in_order) {
    name_ = std::move(new_name);
    flags_ = new_flags;
    ordered_ = in_order;
  }

  EngineState& engine;                           // C
  platform::Atomic<std::uint32_t> state{kDead};  // A; changed under M
  platform::Atomic<int> max_active{0};           // A; changed under M. The limit in force: 0 while frozen
  platform::Atomic<std::uint32_t> entering{0};  // A: callers of queue_work on an unbound queue between look-up and push
  platform::Atomic<std::uint32_t> drain_warned{0};  // A: refused items while draining, one warning per drain

  // Where an item for a CPU goes: by the CPU's index in the topology. Per-CPU queues: C. Unbound: changed under M, read
  // inside `entering`.
  std::unique_ptr<platform::Atomic<PoolWorkqueue*>[]> by_cpu;

  Mutex mutex;  // attributes, max_active, freezing, destruction
  std::vector<std::unique_ptr<PoolWorkqueue>>
      pwqs;                              // M and F to write, either to read. Oldest first; retired ones stay
  int saved_max_active = 0;              // M: the limit that was asked for
  int min_active = kWqDefaultMinActive;  // M: per node
  WorkqueueAttrs attrs;                  // M: as asked for
  bool frozen = false;                   // M
  std::unique_ptr<NodeActive[]> nodes;   // C: one for each node, then one for pools that span nodes
  int drainers = 0;                      // M
  std::unique_ptr<Rescuer> rescuer;      // C

  Mutex flush_mutex;                       // F
  int work_color = 0;                      // F: of what is queued now
  int flush_color = 0;                     // F: the oldest one that is still waited for
  Flusher* first_flusher = nullptr;        // F
  Flusher* flushers = nullptr;             // F: later colours, in order
  Flusher* overflow = nullptr;             // F: those that found no free colour, in order
  platform::Atomic<int> pwqs_to_flush{0};  // A: pwqs that still hold items of flush_color, and one for who counts
};

}  // namespace upci::inline UPCI_VARIANT
