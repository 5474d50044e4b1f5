// SPDX-License-Identifier: Apache-2.0
// Waiting for all that was queued on a workqueue before. Kernel: __flush_workqueue, flush_workqueue_prep_pwqs.
//
// Items carry the colour that their queue had when they were queued. A flush ends one colour and begins the next, and is
// over when no item of its colour, or of an older one, is in flight in any pwq. Colours are finished in their order, one
// at a time: the first flusher waits for the oldest; when it wakes, it hands that part on to the flusher of the next.
// Flushers that find all colours taken wait in `overflow`, and share the first colour that becomes free.
#include <fmt/format.h>

#include <mutex>

#include "workqueue/engine_state.h"
#include "workqueue/untracked_waits.h"

namespace upci::inline UPCI_VARIANT {

namespace {

constexpr int next_color(int color) noexcept { return (color + 1) % PoolWorkqueue::kColors; }

void append(Flusher*& list, Flusher& flusher) noexcept {
  Flusher** link = &list;
  while (*link != nullptr) link = &(*link)->next;
  *link = &flusher;
}

Flusher* pop(Flusher*& list) noexcept {
  Flusher* first = list;
  list = first->next;
  first->next = nullptr;
  return first;
}

}  // namespace

void EngineState::flush(QueueState& queue) noexcept {
  Flusher self;
  {
    std::lock_guard guard(queue.flush_mutex);
    const int next = next_color(queue.work_color);
    if (next == queue.flush_color) {
      append(queue.overflow, self);
    } else {
      self.color = queue.work_color;
      queue.work_color = next;
      if (queue.first_flusher != nullptr) {
        append(queue.flushers, self);
        prepare_pwqs(queue, PoolWorkqueue::kNoColor, next);
      } else {
        queue.first_flusher = &self;
        if (!prepare_pwqs(queue, self.color, next)) {
          queue.flush_color = next;
          queue.first_flusher = nullptr;
          return;
        }
      }
    }
  }
  {
    const UntrackedWaits noted_before;  // by its caller; who ends a colour is a matter of chance
    self.done.wait();
  }
  std::lock_guard guard(queue.flush_mutex);
  if (queue.first_flusher == &self) cascade(queue);
}

/// Tells each pwq which colour is waited for from now on (flush_color), and which one new items get (work_color). False
/// when nothing of flush_color is in flight.
bool EngineState::prepare_pwqs(QueueState& queue, int flush_color, int work_color) {
  bool in_flight = false;
  // One for ourselves, so that it does not end before all pwqs are counted.
  if (flush_color != PoolWorkqueue::kNoColor) queue.pwqs_to_flush.store(1, std::memory_order_relaxed);
  for (const auto& pwq : queue.pwqs) {
    std::lock_guard guard(pwq->pool->lock());
    pwq->pool->take_inbox();
    if (flush_color != PoolWorkqueue::kNoColor && pwq->nr_in_flight[static_cast<std::size_t>(flush_color)] != 0) {
      pwq->flush_color = flush_color;
      queue.pwqs_to_flush.fetch_add(1, std::memory_order_relaxed);
      in_flight = true;
    }
    if (work_color != PoolWorkqueue::kNoColor) pwq->work_color = work_color;
    pwq->pool->kick();
  }
  if (in_flight && queue.pwqs_to_flush.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    queue.first_flusher->done.complete();
  }
  return in_flight;
}

/// The oldest colour is done: lets all its flushers go, frees it, and makes the flusher of the next colour in flight the
/// first one.
void EngineState::cascade(QueueState& queue) {
  queue.first_flusher = nullptr;
  for (;;) {
    while (queue.flushers != nullptr && queue.flushers->color == queue.flush_color)
      pop(queue.flushers)->done.complete();
    queue.flush_color = next_color(queue.flush_color);
    if (queue.overflow != nullptr) {
      while (queue.overflow != nullptr) {
        Flusher* flusher = pop(queue.overflow);
        flusher->color = queue.work_color;
        append(queue.flushers, *flusher);
      }
      queue.work_color = next_color(queue.work_color);
      prepare_pwqs(queue, PoolWorkqueue::kNoColor, queue.work_color);
    }
    if (queue.flushers == nullptr) return;
    Flusher* next = pop(queue.flushers);
    queue.first_flusher = next;
    if (prepare_pwqs(queue, queue.flush_color, PoolWorkqueue::kNoColor)) return;
    queue.first_flusher = nullptr;
    next->done.complete();
  }
}

void Engine::flush_workqueue(Workqueue& wq) noexcept {
  QueueState* queue = state_->checked(wq, "flush_workqueue");
  if (queue == nullptr || !state_->may_wait_for(*queue, "flush_workqueue")) return;
  state_->flush(*queue);
}

}  // namespace upci::inline UPCI_VARIANT
