// SPDX-License-Identifier: Apache-2.0
// How the engine sees a Work: its data word, its list node, its function.
//
//   data   63       48 47            32 31       8 7        1     0
//          [ disabled ][ workqueue + 1 ][ pool + 1 ][ unused ][PENDING]
//   place  31       8 7   4    1         0
//          [ pool + 1 ][colour][INACTIVE][LINKED]
//
// PENDING  somebody owns the right to queue the work: the queueing call, then the list or the timer, then, for a moment,
//          the worker or the canceller. Whoever sets it owns the work until it is cleared (rules 1, 4).
// workqueue  the number of the workqueue that it is queued on; 0 when not queued, and for a flush barrier.
// pool     the pool that it is queued on or, when not queued, the one where it ran last. 0: it was never queued.
// disabled how often disable_work was called more than enable_work. Changed by anyone, at any time.
//
// place    0, or the pool on one of whose lists the work is: its worklist, a worker's scheduled list, or the inactive list of
//          a pwq. Changed under that pool's lock only; who does not hold it must not trust it. PENDING without a place: on its
//          way, in the pool's inbox, or on a timer.
// LINKED   the next work of the list belongs to this one and moves along with it (a flush barrier).
// INACTIVE the list is the inactive list of its pwq.
// colour   of the flush that it belongs to.
// A word of its own, so that moving a work from list to list takes no locked instruction.
#pragma once

#include <cstdint>

#include "workqueue/delayed_work.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

struct WorkAccess {
  static constexpr std::uint64_t kPending = Work::kPending;
  static constexpr unsigned kPoolShift = 8;
  static constexpr std::uint64_t kPoolMask = 0xffffffULL << kPoolShift;
  static constexpr unsigned kWorkqueueShift = 32;
  static constexpr std::uint64_t kWorkqueueMask = 0xffffULL << kWorkqueueShift;
  static constexpr unsigned kDisabledShift = 48;
  static constexpr std::uint64_t kDisabledOne = 1ULL << kDisabledShift;
  static constexpr std::uint64_t kDisabledMask = 0xffffULL << kDisabledShift;

  static constexpr std::uint32_t kLinked = 1;
  static constexpr std::uint32_t kInactive = 2;
  static constexpr unsigned kColorShift = 4;
  static constexpr std::uint32_t kColorMask = 0xfU << kColorShift;
  static constexpr std::uint32_t kPlaceMask = 0xffffff00U;

  static platform::Atomic<std::uint64_t>& data(Work& work) noexcept { return work.data_; }
  static std::uint32_t place(const Work& work) noexcept { return work.place_.load(std::memory_order_relaxed); }
  static void set_place(Work& work, std::uint32_t place) noexcept {
    work.place_.store(place, std::memory_order_relaxed);
  }
  static const WorkFunction& function(const Work& work) noexcept { return work.function_; }
  static bool has_function(const Work& work) noexcept { return static_cast<bool>(work.function_); }
  static std::uint64_t& queued_at(Work& work) noexcept { return work.queued_at_; }
  static WorkNode& node(Work& work) noexcept { return work; }
  static Work& from_node(WorkNode& node) noexcept { return static_cast<Work&>(node); }

  static Timer& timer(DelayedWork& work) noexcept { return work.timer_; }
  static platform::Atomic<WorkerPool*>& timer_pool(DelayedWork& work) noexcept { return work.timer_pool_; }
  static Workqueue*& workqueue(DelayedWork& work) noexcept { return work.workqueue_; }
  static int& cpu(DelayedWork& work) noexcept { return work.cpu_; }

  /// The pool's number, or -1.
  static int pool_of(std::uint64_t data) noexcept { return static_cast<int>((data & kPoolMask) >> kPoolShift) - 1; }
  /// The workqueue's number, or -1.
  static int workqueue_of(std::uint64_t data) noexcept {
    return static_cast<int>((data & kWorkqueueMask) >> kWorkqueueShift) - 1;
  }
  static std::uint64_t workqueue_bits(int workqueue) noexcept {
    return static_cast<std::uint64_t>(workqueue + 1) << kWorkqueueShift;
  }
  static std::uint64_t pool_bits(int pool) noexcept { return static_cast<std::uint64_t>(pool + 1) << kPoolShift; }

  /// Whether the work is on a list of this pool, whose lock the caller holds.
  static bool is_in(const Work& work, int pool) noexcept { return (place(work) & kPlaceMask) == place_bits(pool); }
  static std::uint32_t place_bits(int pool) noexcept { return static_cast<std::uint32_t>(pool + 1) << kPoolShift; }
  static int color_of(std::uint32_t place) noexcept { return static_cast<int>((place & kColorMask) >> kColorShift); }
  static std::uint32_t color_bits(int color) noexcept { return static_cast<std::uint32_t>(color) << kColorShift; }

  /// Replaces everything but the disable depth, which others may change meanwhile.
  static void replace(Work& work, std::uint64_t bits) noexcept {
    std::uint64_t old = work.data_.load(std::memory_order_relaxed);
    while (!work.data_.compare_exchange_weak(old, (old & kDisabledMask) | bits, std::memory_order_acq_rel,
                                             std::memory_order_relaxed)) {}
  }
};

/// A circular list of works. Not thread-safe: the lock of its pool.
class WorkList {
 public:
  WorkList() noexcept { head_.prev = head_.next = &head_; }
  WorkList(const WorkList&) = delete;
  WorkList& operator=(const WorkList&) = delete;

  bool empty() const noexcept { return head_.next == &head_; }
  Work& front() noexcept { return WorkAccess::from_node(*head_.next); }
  WorkNode* begin() noexcept { return head_.next; }
  WorkNode* end() noexcept { return &head_; }

  static void insert_before(WorkNode* position, Work& work) noexcept {
    WorkNode& node = WorkAccess::node(work);
    node.prev = position->prev;
    node.next = position;
    position->prev->next = &node;
    position->prev = &node;
  }
  static void erase(Work& work) noexcept {
    WorkNode& node = WorkAccess::node(work);
    node.prev->next = node.next;
    node.next->prev = node.prev;
    node.prev = node.next = nullptr;
  }
  void push_back(Work& work) noexcept { insert_before(&head_, work); }
  /// Moves a work and what is linked behind it to the end of another list.
  static void move_linked(Work& first, WorkList& to) noexcept {
    Work* work = &first;
    for (;;) {
      const bool linked = (WorkAccess::place(*work) & WorkAccess::kLinked) != 0;
      WorkNode* next = WorkAccess::node(*work).next;
      erase(*work);
      to.push_back(*work);
      if (!linked) return;
      work = &WorkAccess::from_node(*next);
    }
  }

 private:
  WorkNode head_;
};

}  // namespace upci::inline UPCI_VARIANT
