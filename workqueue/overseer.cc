// SPDX-License-Identifier: Apache-2.0
#include "workqueue/overseer.h"

#include <algorithm>
#include <mutex>

#include "base/log.h"
#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

namespace {

using platform::Nanoseconds;
using namespace std::chrono_literals;

constexpr Nanoseconds kStayAwake = 1s;        // after the last item, so that steady light load wakes nobody
constexpr Nanoseconds kLookForCpus = 1s;      // while anything runs
constexpr Nanoseconds kSampleSleepers = 1ms;  // where only sampling tells that a worker sleeps, or a watch has lapsed

}  // namespace

Result<void> Overseer::start() {
  UPCI_TRY_ASSIGN(thread_,
                  platform::Thread::create({.name = "kworker/overseer"}, [this, keep = engine_.shared_from_this()] {
                    run();
                    exited_.complete();
                  }));
  return {};
}

void Overseer::stop() noexcept {
  stopping_.store(true, std::memory_order_seq_cst);
  call();
}

bool Overseer::join(Deadline deadline) {
  if (!thread_.joinable()) return true;
  if (!exited_.wait(deadline)) {
    thread_.detach();
    return false;
  }
  thread_.join();
  return true;
}

void Overseer::call() noexcept {
  parked_.store(false, std::memory_order_seq_cst);
  bell_.fetch_add(1, std::memory_order_seq_cst);
  platform::wake_word(&bell_, 1);
}

void Overseer::run() {
  const Engine::Options& options = engine_.options();
  const bool samples = options.blocking == BlockingTier::kSampling;
  // Twice within the shortest time that is looked after: a hog's, that of a mayday, the watchdog's.
  Nanoseconds shortest = std::min<Nanoseconds>(options.hog_threshold, options.mayday);
  if (options.watchdog > 0ns) shortest = std::min<Nanoseconds>(shortest, options.watchdog);
  const Nanoseconds period = samples ? kSampleSleepers : std::max<Nanoseconds>(shortest / 2, 1ms);
  // Where only short items run, now and then, it need not look as often: a look costs a wake-up.
  const Nanoseconds rest = samples ? period : 2 * period;
  platform::TimePoint last_busy = platform::Clock::now();
  while (!stopping_.load(std::memory_order_seq_cst)) {
    const std::uint32_t rung = bell_.load(std::memory_order_seq_cst);
    const platform::TimePoint now = platform::Clock::now();
    const bool busy = tick();
    if (busy) last_busy = now;
    if (now - last_busy < kStayAwake) {
      // A call in between only means that it looks a little earlier.
      const bool soon = looks_soon_.load(std::memory_order_relaxed);
      platform::wait_word(bell_, rung, now + (soon ? std::min(period, kSampleSleepers) : busy ? period : rest));
      continue;
    }
    // From here on whoever begins to run calls. One more look for those that began before (as in note_running()).
    parked_.store(true, std::memory_order_seq_cst);
    if (tick()) {
      parked_.store(false, std::memory_order_seq_cst);
      last_busy = now;
      continue;
    }
    if (!stopping_.load(std::memory_order_seq_cst)) platform::wait_word(bell_, rung);
  }
}

bool Overseer::tick() {
  const platform::TimePoint now = platform::Clock::now();
  bool busy = false;
  looks_soon_.store(false, std::memory_order_seq_cst);  // before it looks: what lapses behind its back is announced
  engine_.for_each_pool([&](WorkerPool& pool) { busy = tick(pool, now) || busy; });
  if (busy && now - cpus_seen_at_ >= kLookForCpus) {
    cpus_seen_at_ = now;
    engine_.follow_cpus();
  }
  return busy;
}

bool Overseer::tick(WorkerPool& pool, platform::TimePoint now) {
  bool busy = false;
  {
    std::unique_lock under(pool.lock());
    if (pool.stopping_) return false;
    pool.take_inbox();
    const bool waiting = pool.has_work();
    busy = waiting || pool.nr_running_.load(std::memory_order_relaxed) != 0;
    for (Worker* bucket : pool.busy_) {
      for (Worker* worker = bucket; worker != nullptr; worker = worker->next_busy_) busy = busy || !worker->sleeping_;
    }
    // Items that wait behind a sleeping one are looked after, too: it may sleep for what one of them would give (rule 31).
    if (!busy && !pool.has_waiting_items()) {
      pool.restart_watchdog(now);
      return false;
    }
    look_for_hogs(pool);
    if (waiting && engine_.options().blocking == BlockingTier::kSampling) look_for_sleepers(pool);
    if (engine_.options().blocking == BlockingTier::kSwitches) look_for_lapses(pool);
    pool.kick();
  }
  find_worker(pool);
  look_for_stall(pool, now);
  report_hogs();
  return true;
}

/// Where no thread could be had: tries again, and lets rescuers run what is theirs meanwhile (rule 26).
void Overseer::find_worker(WorkerPool& pool) {
  {
    std::lock_guard guard(pool.lock());
    if (!pool.lacks_worker_) return;
  }
  const bool created = pool.create_worker().has_value();
  std::lock_guard guard(pool.lock());
  if (created) {
    pool.lacks_worker_ = false;
    pool.kick();
  } else if (pool.has_work() &&
             platform::Clock::now() - pool.stalled_since_.load(std::memory_order_relaxed) >= engine_.options().mayday) {
    engine_.send_mayday(pool);
  }
}

/// Takes CPU time of the items that were already there at the last tick. Under the pool's lock. Kernel: wq_worker_tick.
void Overseer::look_for_hogs(WorkerPool& pool) {
  const Nanoseconds threshold = engine_.options().hog_threshold;
  for (Worker* bucket : pool.busy_) {
    for (Worker* worker = bucket; worker != nullptr; worker = worker->next_busy_) {
      if (worker->current_pwq_ == nullptr) continue;
      if (!worker->probe_) {
        auto probe = platform::ThreadProbe::open(worker->thread_id_);
        if (!probe) continue;
        worker->probe_.emplace(std::move(*probe));
      }
      const Nanoseconds used = worker->probe_->cpu_time();
      if (worker->ticked_item_ != worker->items_) {
        worker->ticked_item_ = worker->items_;
        worker->cpu_at_item_ = worker->cpu_at_tick_ = used;
        continue;
      }
      PoolWorkqueue& pwq = *worker->current_pwq_;
      pwq.stats.cpu_time += used - worker->cpu_at_tick_;
      worker->cpu_at_tick_ = used;
      if (!worker->counts_ || threshold <= 0ns || used - worker->cpu_at_item_ < threshold) continue;
      // From now on it does not count: the next item starts beside it.
      worker->cpu_intensive_ = true;
      pool.stop_counting(*worker);
      pwq.stats.cpu_intensive++;
      note_hog(pool, *worker, used - worker->cpu_at_item_);
    }
  }
}

/// Tier 3: a worker that counts as running but sleeps. Under the pool's lock.
void Overseer::look_for_sleepers(WorkerPool& pool) {
  for (Worker* bucket : pool.busy_) {
    for (Worker* worker = bucket; worker != nullptr; worker = worker->next_busy_) {
      if (worker->probe_ && worker->counts_ && worker->probe_->asleep()) pool.note_asleep(*worker);
    }
  }
}

/// Tier 2: a worker that was found preempted is not watched until it is found running. Under the pool's lock.
void Overseer::look_for_lapses(WorkerPool& pool) {
  for (Worker* bucket : pool.busy_) {
    for (Worker* worker = bucket; worker != nullptr; worker = worker->next_busy_) {
      if (!worker->counts_ || !worker->watch_ || !worker->watch_->lapsed()) continue;
      if (pool.rearm(*worker) == platform::SwitchWatch::State::kBlocked) pool.note_asleep(*worker);
      if (worker->watch_->lapsed()) looks_soon_.store(true, std::memory_order_seq_cst);
    }
  }
}

}  // namespace upci::inline UPCI_VARIANT
