// SPDX-License-Identifier: Apache-2.0
#include "workqueue/rescuer.h"

#include <fmt/format.h>

#include <mutex>

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

Result<void> Rescuer::start() {
  UPCI_TRY_ASSIGN(thread_, platform::Thread::create({.name = fmt::format("kworker/R-{}", queue_.name())},
                                                    [this, keep = engine_.shared_from_this()] {
                                                      run();
                                                      worker_.exited_.complete();
                                                    }));
  return {};
}

Rescuer::~Rescuer() {
  stop();
  if (thread_.joinable()) thread_.join();
}

void Rescuer::stop() noexcept {
  stopping_.store(true, std::memory_order_release);
  bell_.fetch_add(1, std::memory_order_seq_cst);
  platform::wake_word(&bell_, 1);
}

bool Rescuer::join(Deadline deadline) {
  if (!thread_.joinable()) return true;
  if (!worker_.exited_.wait(deadline)) {
    thread_.detach();
    return false;
  }
  thread_.join();
  return true;
}

void Rescuer::call(PoolWorkqueue& pwq) noexcept {
  {
    std::lock_guard guard(engine_.mayday_lock());
    if (pwq.is_mayday) return;
    pwq.is_mayday = true;
    pwq.next_mayday = nullptr;
    PoolWorkqueue** link = &mayday_;
    while (*link != nullptr) link = &(*link)->next_mayday;
    *link = &pwq;
    pwq.stats.mayday++;
  }
  bell_.fetch_add(1, std::memory_order_seq_cst);
  platform::wake_word(&bell_, 1);
}

void Rescuer::run() {
  WorkerPool::make_current(&worker_);
  worker_.track_completions(engine_.dependencies().tracks_completions());
  while (!stopping_.load(std::memory_order_acquire)) {
    const std::uint32_t rung = bell_.load(std::memory_order_seq_cst);
    PoolWorkqueue* pwq = nullptr;
    {
      std::lock_guard guard(engine_.mayday_lock());
      pwq = mayday_;
      if (pwq != nullptr) {
        mayday_ = pwq->next_mayday;
        pwq->is_mayday = false;
      }
    }
    if (pwq != nullptr) {
      rescue(*pwq);
    } else if (!stopping_.load(std::memory_order_acquire)) {
      platform::wait_word(bell_, rung);
    }
  }
  WorkerPool::make_current(nullptr);
}

/// Runs this queue's items of one pool, and nobody else's (rule 26).
void Rescuer::rescue(PoolWorkqueue& pwq) {
  WorkerPool& pool = *pwq.pool;
  pool.host(worker_);
  std::unique_lock under(pool.lock());
  worker_.thread_id_ = platform::this_thread::id();
  for (;;) {
    pool.take_inbox();
    WorkNode* at = pool.worklist_.begin();
    while (at != pool.worklist_.end() &&
           pool.pwq_of(WorkAccess::workqueue_of(
               WorkAccess::data(WorkAccess::from_node(*at)).load(std::memory_order_relaxed))) != &pwq) {
      at = at->next;
    }
    if (at == pool.worklist_.end() || pool.stopping_) break;
    if (!pool.assign(worker_, WorkAccess::from_node(*at))) continue;
    pwq.stats.rescued++;
    pool.process_scheduled(worker_, under);
  }
  // The pool's own workers may have looked away while its items were in our hands.
  pool.kick();
}

/// Calls the rescuers of all queues whose items wait in the pool. Under the pool's lock. Kernel: send_mayday.
void EngineState::send_mayday(WorkerPool& pool) noexcept {
  pool.take_inbox();
  for (WorkNode* at = pool.worklist_.begin(); at != pool.worklist_.end(); at = at->next) {
    const std::uint64_t data = WorkAccess::data(WorkAccess::from_node(*at)).load(std::memory_order_relaxed);
    PoolWorkqueue* pwq = pool.pwq_of(WorkAccess::workqueue_of(data));
    if (pwq != nullptr && pwq->queue->rescuer) pwq->queue->rescuer->call(*pwq);
  }
}

}  // namespace upci::inline UPCI_VARIANT
