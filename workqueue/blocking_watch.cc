// SPDX-License-Identifier: Apache-2.0
// Workers that sleep where no framework wait tells: in a library's read, on a foreign mutex, in a page fault. The kernel
// records their being switched out (platform::SwitchWatch), the record wakes an idle worker of the same CPU, and that one
// takes the sleeper out of the count and goes on with the next item. Kernel: wq_worker_sleeping, called by its scheduler.
//
// That the sleeper runs again is recorded, too, but may be found late: the record's reader wants the same CPU. So whoever is
// about to start an item looks (look_for_awake), and the sleeper itself says so when its item ends or passes a framework wait.
#include <mutex>

#include "base/log.h"
#include "workqueue/engine_state.h"
#include "workqueue/latency.h"
#include "workqueue/overseer.h"
#include "workqueue/worker_pool.h"

namespace upci::inline UPCI_VARIANT {

/// By the worker itself, as it begins.
void WorkerPool::watch(Worker& worker) {
  auto watch = platform::SwitchWatch::create();
  auto probe =
      watch ? platform::ThreadProbe::open(worker.thread_id_) : Result<platform::ThreadProbe>(fail(Errc::kState, ""));
  const std::uint64_t token = next_token_++;
  if (!watch || !probe || !events_.add(*watch, token)) {
    // Not fatal: framework waits tell all the same. (The limits on locked memory or descriptors, most likely.)
    log::debug("{}: its sleep goes unnoticed: {}", thread_name(worker.id_),
               watch ? "it cannot be looked at" : watch.error().message());
    return;
  }
  worker.token_ = token;
  worker.watch_.emplace(std::move(*watch));
  worker.probe_.emplace(std::move(*probe));
  watched_.emplace(token, &worker);
}

void WorkerPool::unwatch(Worker& worker) noexcept {
  if (!worker.watch_) return;
  (void)events_.remove(*worker.watch_);
  watched_.erase(worker.token_);
  worker.watch_.reset();
}

/// A record says that the worker was switched out or in. What is preempted does not sleep.
void WorkerPool::note_switch(Worker& worker) noexcept {
  if (rearm(worker) == platform::SwitchWatch::State::kBlocked) {
    note_asleep(worker);
  } else if (worker.unannounced_) {
    note_awake(worker);
  }
  ask_to_rearm(worker);
}

platform::SwitchWatch::State WorkerPool::rearm(Worker& worker) noexcept {
  return worker.watch_->rearm(*worker.probe_, identity_.cpu.os_cpu);
}

/// Whoever stands by for a preempted worker has its CPU, so that the overseer, from another CPU or later, has to look.
void WorkerPool::ask_to_rearm(const Worker& worker) noexcept {
  if (worker.counts_ && worker.watch_ && worker.watch_->lapsed()) engine_.overseer().note_lapse();
}

/// One that sleeps for the pool's lock, which the caller has, is between two items: nobody need stand in for it.
void WorkerPool::note_asleep(Worker& worker) noexcept {
  if (!worker.counts_ || !worker.inside_.load(std::memory_order_acquire)) return;
  worker.sleeping_ = worker.unannounced_ = true;
  nr_unannounced_++;
  latency::note_sleep(engine_, worker.thread_id_, true);
  stop_counting(worker);
  if (!has_work()) return;
  stats_.cm_wakeups++;
  if (worker.current_pwq_ != nullptr) worker.current_pwq_->stats.cm_wakeups++;
  kick();
}

void WorkerPool::note_awake(Worker& worker) noexcept {
  if (worker.sleeping_) latency::note_sleep(engine_, worker.thread_id_, false);
  worker.sleeping_ = false;
  if (worker.unannounced_) {
    worker.unannounced_ = false;
    nr_unannounced_--;
  }
  start_counting(worker);
}

void WorkerPool::look_for_awake() noexcept {
  for (Worker* bucket : busy_) {
    for (Worker* worker = bucket; worker != nullptr; worker = worker->next_busy_) {
      if (!worker->unannounced_) continue;
      using State = platform::SwitchWatch::State;
      const bool asleep = worker->watch_
                              ? worker->watch_->state() == State::kBlocked || rearm(*worker) == State::kBlocked
                              : worker->probe_->asleep();
      if (asleep) continue;
      note_awake(*worker);
      ask_to_rearm(*worker);
    }
  }
}

}  // namespace upci::inline UPCI_VARIANT
