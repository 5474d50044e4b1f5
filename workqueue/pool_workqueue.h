// SPDX-License-Identifier: Apache-2.0
// What a workqueue is in one pool: how many of its items are active and in flight there, and those that wait because
// max_active is reached. Kernel: struct pool_workqueue (pwq), struct wq_node_nr_active.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "workqueue/work_data.h"

namespace upci::inline UPCI_VARIANT {

class WorkerPool;
class QueueState;
struct PoolWorkqueue;

/// Counters of a pwq, named as in the kernel's wq_monitor.py. They only grow.
struct PwqStats {
  std::uint64_t started = 0;            // items whose function was called
  std::uint64_t completed = 0;          // items whose function has returned
  std::chrono::nanoseconds cpu_time{};  // CPU time of items, taken at each tick
  std::uint64_t cpu_intensive = 0;      // items that exceeded the hog threshold
  std::uint64_t cm_wakeups = 0;         // workers woken because one of its items blocked
  std::uint64_t repatriated = 0;        // unbound workers brought back into their pod
  std::uint64_t mayday = 0;             // calls for the rescuer
  std::uint64_t rescued = 0;            // items that the rescuer ran
};

/// How many items of an unbound workqueue are active on one node. Kernel: struct wq_node_nr_active.
/// N = lock. Taken inside a pool's lock, never around one.
struct NodeActive {
  platform::Mutex lock;
  int nr = 0;                        // N
  int max = 0;                       // N: its share of max_active
  PoolWorkqueue* pending = nullptr;  // N: pwqs with inactive items that wait for a slot, first come first served
  PoolWorkqueue* pending_last = nullptr;
};

/// P = lock of `pool`; N = lock of the node's NodeActive; W = the workqueue's mutex; C = const while the pwq is installed.
/// The memory stays as long as the engine does: whoever still holds a pointer finds a pwq, if an idle one.
struct PoolWorkqueue {
  static constexpr int kColors = 16;  // four bits of a work's data word
  static constexpr int kNoColor = -1;

  WorkerPool* pool = nullptr;   // C
  QueueState* queue = nullptr;  // C
  NodeActive* node = nullptr;   // C: nullptr where the limit is the pwq's own (per-CPU workqueues)
  // What the workers write for each item is on another line than what callers of queue_work read.
  alignas(64) int nr_active = 0;            // P: on the worklist or running
  int work_color = 0;                       // P: of what is queued from now on
  int flush_color = kNoColor;               // P: the colour that a flusher waits for
  bool plugged = false;                     // P: an older pwq of an ordered queue must run dry first
  bool retired = false;                     // P: replaced by a change of attributes; runs dry, takes nothing new
  std::array<int, kColors> nr_in_flight{};  // P: by colour: active and inactive ones
  WorkList inactive;                        // P: beyond max_active, in the order of their queueing
  PwqStats stats;                           // P
  PoolWorkqueue* next_pending = nullptr;    // N
  bool is_pending = false;                  // N
  PoolWorkqueue* next_mayday = nullptr;     // the engine's mayday lock
  bool is_mayday = false;                   // the same

  bool in_flight() const noexcept {
    for (const int count : nr_in_flight) {
      if (count != 0) return true;
    }
    return false;
  }
};

}  // namespace upci::inline UPCI_VARIANT
