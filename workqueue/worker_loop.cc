// SPDX-License-Identifier: Apache-2.0
// What a worker's thread does. Kernel: worker_thread, process_one_work, wq_worker_sleeping, wq_worker_running.
#include <algorithm>
#include <array>
#include <mutex>

#include "base/log.h"
#include "workqueue/engine_state.h"
#include "workqueue/latency.h"
#include "workqueue/lifetime.h"
#include "workqueue/overseer.h"
#include "workqueue/trace.h"
#include "workqueue/worker_pool.h"

namespace upci::inline UPCI_VARIANT {

namespace {
struct CurrentWorkerSlot;
}

Worker* Worker::current() noexcept { return static_cast<Worker*>(platform::thread_slot<CurrentWorkerSlot>()); }
void WorkerPool::make_current(Worker* worker) noexcept { platform::thread_slot<CurrentWorkerSlot>() = worker; }

void Worker::describe(std::string text) {
  std::lock_guard guard(pool_->lock_);
  description_ = std::move(text);
}

void Worker::about_to_block() noexcept {
  WorkerPool& pool = *pool_;
  std::lock_guard guard(pool.lock_);
  if (watch_) watch_->disarm();              // what is announced need not be noticed
  if (unannounced_) pool.note_awake(*this);  // it woke unseen; this sleep is another one, and announced
  sleeping_ = true;
  latency::note_sleep(pool.engine(), thread_id_, true);
  if (!counts_) return;
  pool.stop_counting(*this);
  if (pool.need_more_worker()) {
    pool.stats_.cm_wakeups++;
    if (current_pwq_ != nullptr) current_pwq_->stats.cm_wakeups++;
    pool.kick();
  }
}

void Worker::resumed() noexcept {
  {
    std::lock_guard guard(pool_->lock_);
    pool_->note_awake(*this);
  }
  pool_->engine().overseer().note_running();
  if (watch_) watch_->arm();
}

std::uint32_t Worker::completer() noexcept { return pool_->engine().dependencies().completer(); }
void Worker::waited_for(std::uint32_t completer) noexcept { pool_->engine().dependencies().note_completion(completer); }

void WorkerPool::start_counting(Worker& worker) noexcept {
  if (worker.counts_ || !manages_concurrency()) return;
  if (worker.rescuer_ || worker.sleeping_ || worker.cpu_intensive_ || worker.rebound_ || worker.written_off_) return;
  worker.counts_ = true;
  nr_running_.fetch_add(1, std::memory_order_seq_cst);
}

void WorkerPool::stop_counting(Worker& worker) noexcept {
  if (!worker.counts_) return;
  worker.counts_ = false;
  nr_running_.fetch_sub(1, std::memory_order_seq_cst);
}

void WorkerPool::run(Worker& worker) {
  make_current(&worker);
  worker.track_completions(engine_.dependencies().tracks_completions());
  if (identity_.nice != 0) (void)platform::this_thread::set_nice(identity_.nice);
  if (!os_cpus_.empty()) (void)platform::this_thread::set_cpus(os_cpus_);
  std::unique_lock under(lock_);
  worker.thread_id_ = platform::this_thread::id();
  if (engine_.options().blocking == BlockingTier::kSwitches && identity_.kind == Kind::kPercpu) watch(worker);
  // A retired pool can still have a barrier, of an item that was taken back: its flusher waits.
  while (!stopping_ && !worker.written_off_ && (!retired_ || has_work())) {
    if (!need_more_worker()) {
      // It counts while it serves events and timers: what these queue here is then its own to run, and wakes nobody else.
      const Idle idled = idle(worker, under);
      if (idled == Idle::kCulled) break;
      if (idled == Idle::kLook) continue;
    } else {
      nr_idle_.fetch_sub(1, std::memory_order_seq_cst);
      start_counting(worker);
      if (identity_.kind == Kind::kUnbound) return_to_pod(under);
    }
    work_off(worker, under);
    stop_counting(worker);
    nr_idle_.fetch_add(1, std::memory_order_seq_cst);
  }
  nr_idle_.fetch_sub(1, std::memory_order_seq_cst);
  nr_workers_--;
  unwatch(worker);
  // Each one that ends wakes the next: a notification wakes one waiter only. When a written-off worker ends, items that
  // came meanwhile have workers of their own.
  if (stopping_ || retired_) events_.notify();
  make_current(nullptr);
}

/// Runs items as long as this worker is to. Kernel: the inner loop of worker_thread.
void WorkerPool::work_off(Worker& worker, std::unique_lock<platform::Mutex>& under) {
  engine_.overseer().note_running();
  while (!stopping_ && !worker.written_off_) {
    if (identity_.kind == Kind::kPercpu) come_home(worker, under);
    start_counting(worker);  // not yet done where the CPU has only just come back
    if (!keep_working()) return;
    if (nr_unannounced_ != 0) {
      look_for_awake();
      if (!keep_working()) return;
    }
    if (worklist_.empty()) {
      take_inbox();
      continue;
    }
    if (!may_start_working() && !managing_ && !lacks_worker_ && !retired_) {
      manage_workers(under);
      continue;
    }
    if (assign(worker, worklist_.front())) process_scheduled(worker, under);
  }
}

/// Waits for work, events and timers. kWork: it came back counted, with events and timers served; kLook: it only woke up
/// and the caller should look again; kCulled: it has been idle for long, and there are enough others.
WorkerPool::Idle WorkerPool::idle(Worker& worker, std::unique_lock<platform::Mutex>& under) {
  if (worker.watch_) worker.watch_->disarm();
  if (spin(under)) return Idle::kLook;
  std::array<platform::Event, 16> events;
  // Two stay for ever. Of the others each waits for its own end, so that those that are never needed go one by one.
  const bool extra = nr_idle_.load(std::memory_order_relaxed) > 2;
  under.unlock();
  const platform::TimePoint until = extra ? Deadline::after(engine_.options().idle_timeout).when() : platform::kNever;
  const platform::EventWait woken = events_.wait(events, until);
  // Before it looks: what is pushed from now on may be announced again (pairs with the exchange in wake_one()).
  wake_pending_.store(false, std::memory_order_seq_cst);
  under.lock();
  if (woken.timed_out) return too_many_workers() && !need_more_worker() ? Idle::kCulled : Idle::kLook;
  const auto is_watch = [this](const platform::Event& event) { return watched_.contains(event.token); };
  if (woken.events != 0 && !woken.alarm && std::all_of(events.begin(), events.begin() + woken.events, is_watch)) {
    stats_.switch_wakeups++;
  } else {
    stats_.wakeups++;
  }
  if (stopping_ || retired_ || (woken.events == 0 && !woken.alarm)) return Idle::kLook;
  nr_idle_.fetch_sub(1, std::memory_order_seq_cst);
  start_counting(worker);
  if (identity_.kind != Kind::kUnbound) come_home(worker, under);
  for (std::size_t i = 0; i < woken.events; i++) serve(events[i].token, under);
  if (woken.alarm) expire_timers(under);
  return Idle::kWork;
}

/// Looks for work without sleeping, as long as the engine's spin budget allows. One worker of a pool at a time.
bool WorkerPool::spin(std::unique_lock<platform::Mutex>& under) {
  const platform::Nanoseconds budget = engine_.options().spin;
  if (budget <= platform::Nanoseconds::zero() || spinning_.load(std::memory_order_relaxed)) return false;
  spinning_.store(true, std::memory_order_seq_cst);
  under.unlock();
  const platform::TimePoint end = Deadline::after(budget).when();
  bool found = false;
  do {
    for (int i = 0; i < 64 && !found; i++) {
      found = inbox_.load(std::memory_order_relaxed) != nullptr && nr_running_.load(std::memory_order_relaxed) == 0;
      if (!found) platform::relax();
    }
  } while (!found && platform::Clock::now() < end);
  // Whoever pushed before this relied on us: the caller looks once more before it sleeps (as wake_one() and has_work()).
  spinning_.store(false, std::memory_order_seq_cst);
  under.lock();
  return need_more_worker() || stopping_ || retired_;
}

/// The kernel moves the threads of a CPU that goes offline to others, and does not move them back: it has forgotten where
/// they belong. So each looks for itself before it works. Kernel, for its own: restore_unbound_workers_cpumask, rebind_workers.
void WorkerPool::come_home(Worker& worker, std::unique_lock<platform::Mutex>& under) {
  const int home = identity_.cpu.os_cpu;
  // Again after each look away: the CPU may have come back meanwhile.
  while (disassociated_ && told_) {
    if (worker.loose_) return;
    worker.loose_ = true;
    under.unlock();
    (void)platform::this_thread::set_cpus(engine_.os_cpus());
    under.lock();
  }
  if (platform::this_thread::current_cpu() == home && !worker.loose_) [[likely]]
    return;
  under.unlock();
  const bool back = platform::this_thread::set_cpu(home).has_value();
  under.lock();
  if (back) {
    worker.loose_ = false;
    if (disassociated_ && !told_) bind_again();
  } else {
    stats_.displaced++;
  }
  if (away_ == !back) return;
  away_ = !back;
  if (back) {
    log::info("CPU {} is back: its workers run on it again", identity_.cpu.id);
  } else {
    log::warn("CPU {} has gone: its workers go on elsewhere", identity_.cpu.id);
  }
}

/// Workers of an unbound pool that is not strict may run anywhere in their cpumask, but begin in their pod.
/// Kernel: kick_pool's wake_cpu.
void WorkerPool::return_to_pod(std::unique_lock<platform::Mutex>& under) {
  if (identity_.strict || os_pod_.empty() || os_pod_.contains(platform::this_thread::current_cpu())) return;
  const std::vector<int> pod = os_pod_.list();
  const std::vector<int> all = os_cpus_;
  under.unlock();
  const bool moved = platform::this_thread::set_cpus(pod).has_value();
  (void)platform::this_thread::set_cpus(all);
  under.lock();
  if (moved) stats_.repatriated++;
}

/// Makes sure that somebody stands by. One at a time creates; the others work on meanwhile. Without a new worker the
/// items still run, only nobody takes over while one sleeps, until the overseer has found a thread or called a rescuer.
void WorkerPool::manage_workers(std::unique_lock<platform::Mutex>& under) {
  managing_ = true;
  under.unlock();
  const auto created = create_worker();
  under.lock();
  managing_ = false;
  if (created || created.error().code == Errc::kState || lacks_worker_) return;
  lacks_worker_ = true;
  under.unlock();
  log::warn("no standby worker for pool {}: {}", number_, created.error().message());
  engine_.overseer().call();
  under.lock();
}

/// Gives a work of the worklist to this worker, or to the one that is running it already: two runs never overlap (rule 5).
bool WorkerPool::assign(Worker& worker, Work& work) noexcept {
  if (Worker* other = find_worker_executing(work)) {
    WorkList::move_linked(work, other->scheduled_);
    return false;
  }
  WorkList::move_linked(work, worker.scheduled_);
  return true;
}

void WorkerPool::process_scheduled(Worker& worker, std::unique_lock<platform::Mutex>& under) {
  while (!worker.scheduled_.empty()) {
    process(worker, worker.scheduled_.front(), under);
    // What others have put here meanwhile may have come after the CPU did. This can let go of the lock: look again.
    if (identity_.kind == Kind::kPercpu && !worker.scheduled_.empty()) come_home(worker, under);
  }
}

void WorkerPool::process(Worker& worker, Work& work, std::unique_lock<platform::Mutex>& under) {
  const std::uint64_t data = WorkAccess::data(work).load(std::memory_order_relaxed);
  const WorkFunction function = WorkAccess::function(work);
  PoolWorkqueue* const pwq = pwq_of(WorkAccess::workqueue_of(data));  // nullptr: a flush barrier
  begin(worker, work, function, pwq, WorkAccess::color_of(WorkAccess::place(work)));
  if (pwq != nullptr) lifetime::note_running(work, worker);
  WorkList::erase(work);
  WorkAccess::set_place(work, 0);
  latency::Run notes(engine_, work, function, pwq, cpu());
  // Clears PENDING: from here on it can be queued again (rule 4). A losing queue_work was a releasing read-modify-write on
  // the same word, and this is an acquiring one that comes after it: what its caller wrote before, the function reads after
  // (rule 2). The kernel, whose losers write nothing, has an smp_mb() here.
  WorkAccess::data(work).fetch_and(~(WorkAccess::kPending | WorkAccess::kWorkqueueMask), std::memory_order_acq_rel);
  // Where this worker does not count, the next item may start beside it.
  if (!worker.counts_) kick();
  under.unlock();

  trace::execute_start(work, function);
  notes.started();
  if (worker.watch_) worker.watch_->arm();
  set_blocking_observer(&worker);
  worker.inside_.store(true, std::memory_order_relaxed);
  function(work);  // may free the work: not touched from here on (rule 6)
  worker.inside_.store(false, std::memory_order_release);
  if (worker.watch_) worker.watch_->disarm();
  set_blocking_observer(nullptr);
  notes.ended();
  trace::execute_end(&work, function);
  if (pwq != nullptr) lifetime::note_ended(&work, worker);

  under.lock();
  end(worker, &work);
  if (pwq == nullptr) return;
  pwq->stats.completed++;
  if (const FollowUp next = finish(*pwq, worker.current_color_, true)) {
    under.unlock();
    engine_.follow_up(next);
    under.lock();
  }
}

/// Notes that the worker runs this item from now on.
void WorkerPool::begin(Worker& worker, Work& work, const WorkFunction& function, PoolWorkqueue* pwq,
                       int color) noexcept {
  worker.current_work_ = &work;
  worker.current_function_ = function;
  worker.current_pwq_ = pwq;
  worker.current_color_ = color;
  worker.items_++;
  Worker*& bucket = busy_bucket(&work);
  worker.next_busy_ = bucket;
  bucket = &worker;
  stats_.executed++;
  if (pwq == nullptr) return;
  pwq->stats.started++;
  if (pwq->queue->has(kWqCpuIntensive)) {
    worker.cpu_intensive_ = true;
    stop_counting(worker);
  }
}

void WorkerPool::end(Worker& worker, const Work* work) noexcept {
  Worker** link = &busy_bucket(work);
  while (*link != &worker) link = &(*link)->next_busy_;
  *link = worker.next_busy_;
  worker.next_busy_ = nullptr;
  worker.current_work_ = nullptr;
  worker.current_pwq_ = nullptr;
  if (!worker.description_.empty()) worker.description_.clear();
  if (worker.unannounced_) note_awake(worker);
  if (worker.cpu_intensive_ || worker.rebound_) {
    worker.cpu_intensive_ = worker.rebound_ = false;
    start_counting(worker);
  }
}

void WorkerPool::serve(std::uint64_t token, std::unique_lock<platform::Mutex>& under) {
  if (const auto watched = watched_.find(token); watched != watched_.end()) return note_switch(*watched->second);
  const auto found = sources_.find(token);
  if (found == sources_.end()) return;
  EventSource& source = *found->second;
  if (source.running_) {
    source.again_ = true;  // the worker that runs it goes round once more
    return;
  }
  source.running_ = true;
  do {
    source.again_ = false;
    stats_.events++;
    under.unlock();
    Worker* const self = engine_.keeps_history() ? Worker::current() : nullptr;
    if (self != nullptr) self->serving_ = {source.fd_, reinterpret_cast<std::uintptr_t>(source.function_)};
    source.function_(source.context_);
    if (self != nullptr) self->serving_ = {};
    under.lock();
  } while (source.again_ && !source.removed_);
  const bool awaited = source.removed_;
  source.running_ = false;
  if (!awaited) return;
  // remove_source sleeps on the counter; it may free the source as soon as it has the lock.
  source_ended_.fetch_add(1, std::memory_order_release);
  platform::wake_word(&source_ended_, INT32_MAX);
}

void WorkerPool::expire_timers(std::unique_lock<platform::Mutex>& under) {
  while (Timer* timer = timers_.pop_expired(platform::Clock::now())) {
    // The timer's PENDING is ours now. A canceller that comes meanwhile tries again until the work is queued.
    DelayedWork& work = timer->owner;
    auto& queue = static_cast<QueueState&>(*WorkAccess::workqueue(work));
    const int cpu = WorkAccess::cpu(work);
    under.unlock();
    engine_.queue_owned(cpu, queue, work.work());
    under.lock();
  }
  reset_alarm();
}

}  // namespace upci::inline UPCI_VARIANT
