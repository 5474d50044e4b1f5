// SPDX-License-Identifier: Apache-2.0
// Which items may run: max_active and its inactive lists, colours, and what the end of an item lets go on.
// Kernel: pwq_tryinc_nr_active, pwq_dec_nr_active, node_activate_pending_pwq, pwq_dec_nr_in_flight.
#include <mutex>

#include "workqueue/engine_state.h"
#include "workqueue/lifetime.h"
#include "workqueue/trace.h"
#include "workqueue/worker_pool.h"

namespace upci::inline UPCI_VARIANT {

namespace {

// A node's line of pwqs that wait for a slot; under the node's lock.
void wait_in_line(NodeActive& node, PoolWorkqueue& pwq) noexcept {
  pwq.is_pending = true;
  pwq.next_pending = nullptr;
  (node.pending == nullptr ? node.pending : node.pending_last->next_pending) = &pwq;
  node.pending_last = &pwq;
}

void leave_line(NodeActive& node) noexcept {
  PoolWorkqueue& pwq = *node.pending;
  node.pending = pwq.next_pending;
  pwq.next_pending = nullptr;
  pwq.is_pending = false;
}

}  // namespace

void WorkerPool::take_inbox() noexcept {
  if (inbox_.load(std::memory_order_relaxed) == nullptr) return;
  // Acquire pairs with the release of push(): the works' links and data.
  WorkNode* newest = inbox_.exchange(nullptr, std::memory_order_acquire);
  WorkNode* oldest = nullptr;
  while (newest != nullptr) {
    WorkNode* next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  while (oldest != nullptr) {
    WorkNode* next = oldest->next;
    accept(WorkAccess::from_node(*oldest));
    oldest = next;
  }
}

void WorkerPool::accept(Work& work) noexcept {
  const int number = WorkAccess::workqueue_of(WorkAccess::data(work).load(std::memory_order_relaxed));
  PoolWorkqueue* pwq = pwq_of(number);
  if (stopping_ || pwq == nullptr) [[unlikely]] {
    // The engine ends, or the queue was destroyed while somebody still queued on it.
    lifetime::note_idle(work);
    WorkAccess::replace(work, WorkAccess::pool_bits(number_));
    return;
  }
  std::uint32_t place = WorkAccess::place_bits(number_) | WorkAccess::color_bits(pwq->work_color);
  pwq->nr_in_flight[static_cast<std::size_t>(pwq->work_color)]++;
  if (pwq->inactive.empty() && take_slot(*pwq)) {
    trace::activate_work(work);
    worklist_.push_back(work);
  } else {
    place |= WorkAccess::kInactive;
    pwq->inactive.push_back(work);
  }
  WorkAccess::set_place(work, place);
}

/// Counts one more active item, if the limit allows it. Where it does not, a pwq of an unbound queue waits in line.
bool WorkerPool::take_slot(PoolWorkqueue& pwq) noexcept {
  if (pwq.node == nullptr) {
    if (pwq.nr_active >= pwq.queue->max_active.load(std::memory_order_relaxed)) return false;
    pwq.nr_active++;
    return true;
  }
  if (pwq.plugged) return false;
  NodeActive& node = *pwq.node;
  std::lock_guard guard(node.lock);
  if (!pwq.is_pending && node.nr < node.max) {
    node.nr++;
    pwq.nr_active++;
    return true;
  }
  if (!pwq.is_pending) wait_in_line(node, pwq);
  return false;
}

void WorkerPool::activate_first(PoolWorkqueue& pwq) noexcept {
  Work& work = pwq.inactive.front();
  WorkAccess::set_place(work, WorkAccess::place(work) & ~WorkAccess::kInactive);
  trace::activate_work(work);
  WorkList::move_linked(work, worklist_);
}

void WorkerPool::activate_inactive(PoolWorkqueue& pwq) noexcept {
  while (!pwq.inactive.empty() && take_slot(pwq)) activate_first(pwq);
}

/// Gives a slot of the node back. When its next owner is this very pwq, it has it at once; returns the node when another
/// pool's waits for one.
NodeActive* WorkerPool::release_slot(PoolWorkqueue& pwq) noexcept {
  NodeActive& node = *pwq.node;
  bool ours = false;
  bool others = false;
  {
    std::lock_guard guard(node.lock);
    node.nr--;
    while (node.pending == &pwq && node.nr < node.max && !ours) {
      leave_line(node);
      if (pwq.inactive.empty()) continue;
      node.nr++;
      ours = true;
    }
    others = node.pending != nullptr && node.nr < node.max;
  }
  if (ours) {
    pwq.nr_active++;
    activate_first(pwq);
    // Back in line behind the others, or more slots if there are.
    if (!pwq.inactive.empty()) activate_inactive(pwq);
  }
  return others ? &node : nullptr;
}

/// An item of the pwq has ended or was taken back: its slot goes to the next one, and flushers of its colour hear of it.
FollowUp WorkerPool::finish(PoolWorkqueue& pwq, int color, bool was_active) noexcept {
  FollowUp next;
  if (was_active) {
    pwq.nr_active--;
    if (pwq.node == nullptr) {
      activate_inactive(pwq);
    } else {
      next.node = release_slot(pwq);
    }
  }
  int& in_flight = pwq.nr_in_flight[static_cast<std::size_t>(color)];
  in_flight--;
  if (pwq.flush_color == color && in_flight == 0) {
    pwq.flush_color = PoolWorkqueue::kNoColor;
    // The last one; first_flusher stays while this count is not 0.
    if (pwq.queue->pwqs_to_flush.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      pwq.queue->first_flusher->done.complete();
    }
  }
  if (pwq.retired && pwq.queue->is_ordered() && !pwq.in_flight()) next.queue = pwq.queue;
  return next;
}

void EngineState::follow_up(const FollowUp& next) noexcept {
  if (next.node != nullptr) hand_over(*next.node);
  if (next.queue != nullptr) unplug(*next.queue);
}

/// Gives free slots of a node to the pwqs that wait for them, one item each in turn. Under no lock: each pwq's pool must be
/// locked before the node.
void EngineState::hand_over(NodeActive& node) noexcept {
  for (;;) {
    PoolWorkqueue* pwq = nullptr;
    {
      std::lock_guard guard(node.lock);
      if (node.pending == nullptr || node.nr >= node.max) return;
      pwq = node.pending;
    }
    std::lock_guard pool_guard(pwq->pool->lock());
    {
      std::lock_guard guard(node.lock);
      if (node.pending != pwq || node.nr >= node.max) continue;  // somebody else was faster
      leave_line(node);
      if (pwq->inactive.empty()) continue;
      node.nr++;
    }
    pwq->nr_active++;
    pwq->pool->activate_first(*pwq);
    // Waits for the next slot behind the others.
    if (!pwq->inactive.empty()) pwq->pool->activate_inactive(*pwq);
    pwq->pool->kick();
  }
}

/// The oldest pwq of an ordered queue that is not dry may start items; those behind it wait.
void EngineState::unplug(QueueState& queue) noexcept {
  std::lock_guard guard(queue.mutex);
  unplug_locked(queue);
}

void EngineState::unplug_locked(QueueState& queue) noexcept {
  for (const auto& pwq : queue.pwqs) {
    if (pwq->pool == nullptr) continue;
    std::lock_guard pool_guard(pwq->pool->lock());
    pwq->pool->take_inbox();
    if (pwq->retired && !pwq->in_flight()) continue;
    if (pwq->plugged) {
      pwq->plugged = false;
      pwq->pool->activate_inactive(*pwq);
      pwq->pool->kick();
    }
    return;
  }
}

}  // namespace upci::inline UPCI_VARIANT
