// SPDX-License-Identifier: Apache-2.0
// Emptying a workqueue. Kernel: drain_workqueue.
#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

namespace {

bool is_empty(QueueState& queue) {
  std::lock_guard guard(queue.mutex);
  return std::ranges::none_of(queue.pwqs, [](const auto& pwq) {
    std::lock_guard pool_guard(pwq->pool->lock());
    pwq->pool->take_inbox();
    const bool in_flight = pwq->in_flight();
    pwq->pool->kick();
    return in_flight;
  });
}

}  // namespace

void EngineState::drain(QueueState& queue) noexcept {
  {
    std::lock_guard guard(queue.mutex);
    if (queue.drainers++ == 0) {
      queue.drain_warned.store(0, std::memory_order_relaxed);
      queue.state.fetch_or(QueueState::kDraining, std::memory_order_seq_cst);
    }
  }
  for (unsigned tries = 1;; tries++) {
    flush(queue);
    if (is_empty(queue)) break;
    if (tries == 10 || (tries % 100 == 0 && tries <= 1000)) {
      report_caller(
          Report::Kind::kDrain,
          fmt::format("drain_workqueue: '{}' is not empty after {} tries; one of its items queues itself, or a "
                      "chain of them does not end",
                      queue.name(), tries));
    }
  }
  std::lock_guard guard(queue.mutex);
  if (--queue.drainers == 0) queue.state.fetch_and(~QueueState::kDraining, std::memory_order_seq_cst);
}

/// False, with a report, when the wait would be for the caller itself; true with one when it is merely unwise.
bool EngineState::may_wait_for(QueueState& queue, const char* call) {
  const Worker* worker = Worker::current();
  if (worker != nullptr && worker->current_queue() == &queue) {
    report_caller(Report::Kind::kSelfFlush,
                  fmt::format("{}: called by an item of '{}' itself; it would wait for ever, so it does not", call,
                              queue.name()));
    return false;
  }
  if (is_system(queue)) {
    report_caller(Report::Kind::kFlushDependency,
                  fmt::format("{}: '{}' is a system workqueue: this waits for whatever anybody has put there; flush a "
                              "workqueue of your own",
                              call, queue.name()));
  }
  QueueState* target = &queue;
  check_flush_dependency(target, call);
  dependencies_.note_wait(queue, call);
  return true;
}

void Engine::drain_workqueue(Workqueue& wq) noexcept {
  QueueState* queue = state_->checked(wq, "drain_workqueue");
  if (queue == nullptr || !state_->may_wait_for(*queue, "drain_workqueue")) return;
  state_->drain(*queue);
}

}  // namespace upci::inline UPCI_VARIANT
