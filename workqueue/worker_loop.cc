// SPDX-License-Identifier: Apache-2.0
// What a worker's thread does. Kernel: worker_thread, process_one_work, wq_worker_sleeping, wq_worker_running.
#include <array>
#include <mutex>

#include "base/log.h"
#include "workqueue/engine_state.h"
#include "workqueue/worker_pool.h"

namespace upci::inline UPCI_VARIANT {

namespace {
struct CurrentWorkerSlot;
}

Worker* Worker::current() noexcept { return static_cast<Worker*>(platform::thread_slot<CurrentWorkerSlot>()); }

void Worker::about_to_block() noexcept {
  std::lock_guard guard(pool_.lock_);
  sleeping_ = true;
  if (!counts_) return;
  pool_.stop_counting(*this);
  if (pool_.need_more_worker()) {
    pool_.stats_.cm_wakeups++;
    pool_.kick();
  }
}

void Worker::resumed() noexcept {
  std::lock_guard guard(pool_.lock_);
  sleeping_ = false;
  if (!written_off_) pool_.start_counting(*this);
}

void WorkerPool::start_counting(Worker& worker) noexcept {
  if (worker.counts_) return;
  worker.counts_ = true;
  nr_running_++;
}

void WorkerPool::stop_counting(Worker& worker) noexcept {
  if (!worker.counts_) return;
  worker.counts_ = false;
  nr_running_--;
}

void WorkerPool::run(Worker& worker) {
  platform::thread_slot<CurrentWorkerSlot>() = &worker;
  if (priority_ == Workqueue::Priority::kHigh) (void)platform::this_thread::set_nice(-20);
  std::unique_lock under(lock_);
  worker.thread_id_ = platform::this_thread::id();
  while (!stopping_ && !worker.written_off_) {
    if (!need_more_worker()) {
      // It counts while it serves events and timers: what these queue here is then its own to run, and wakes nobody else.
      if (!idle(worker, under)) continue;
    } else {
      nr_idle_--;
      start_counting(worker);
      come_home(under);
    }
    if (!may_start_working() && !worklist_.empty()) manage_workers(under);
    while (keep_working() && !stopping_ && !worker.written_off_) {
      if (assign(worker, worklist_.front())) process_scheduled(worker, under);
      come_home(under);
    }
    stop_counting(worker);
    nr_idle_++;
  }
  nr_idle_--;
  // Each one that ends wakes the next: a notification wakes one waiter only. When a written-off worker ends, items that
  // came meanwhile have workers of their own.
  if (stopping_) events_.notify();
  platform::thread_slot<CurrentWorkerSlot>() = nullptr;
}

/// Waits for work, events and timers. Returns true when the worker came back counted, with events and timers served;
/// false when it only woke up and the caller should look again.
bool WorkerPool::idle(Worker& worker, std::unique_lock<platform::Mutex>& under) {
  std::array<platform::Event, 16> events;
  under.unlock();
  const platform::EventWait woken = events_.wait(events);
  under.lock();
  stats_.wakeups++;
  if (stopping_ || (woken.events == 0 && !woken.alarm)) return false;
  nr_idle_--;
  start_counting(worker);
  come_home(under);
  for (std::size_t i = 0; i < woken.events; i++) serve(events[i].token, under);
  if (woken.alarm) expire_timers(under);
  return true;
}

/// The kernel moves the threads of a CPU that goes offline to others, and does not move them back: it has forgotten where
/// they belong. So each looks for itself before it works. Kernel, for its own: restore_unbound_workers_cpumask, rebind_workers.
void WorkerPool::come_home(std::unique_lock<platform::Mutex>& under) {
  if (platform::this_thread::current_cpu() == cpu_.os_cpu) [[likely]]
    return;
  under.unlock();
  const bool back = platform::this_thread::set_cpu(cpu_.os_cpu).has_value();
  under.lock();
  if (!back) stats_.displaced++;
  if (away_ == !back) return;
  away_ = !back;
  if (back) {
    log::info("CPU {} is back: its workers run on it again", cpu_.id);
  } else {
    log::warn("CPU {} has gone: its workers go on elsewhere", cpu_.id);
  }
}

/// Makes sure that somebody stands by. One at a time creates; the others work on meanwhile. Without a new worker the
/// items still run, only nobody takes over while one sleeps.
void WorkerPool::manage_workers(std::unique_lock<platform::Mutex>& under) {
  if (managing_ || stopping_) return;
  managing_ = true;
  under.unlock();
  if (auto created = create_worker(); !created && created.error().code != Errc::kState) {
    log::warn("no standby worker for CPU {}: {}", cpu_.id, created.error().message());
  }
  under.lock();
  managing_ = false;
}

/// Moves a work and what is linked behind it to the end of the worker's own list.
void WorkerPool::move_to(Worker& worker, Work& first) noexcept {
  Work* work = &first;
  for (;;) {
    const bool linked = (WorkAccess::data(*work).load(std::memory_order_relaxed) & WorkAccess::kLinked) != 0;
    WorkNode* next = WorkAccess::node(*work).next;
    WorkList::erase(*work);
    worker.scheduled_.push_back(*work);
    if (!linked) return;
    work = &WorkAccess::from_node(*next);
  }
}

/// Gives a work of the worklist to this worker, or to the one that is running it already: two runs never overlap (rule 5).
bool WorkerPool::assign(Worker& worker, Work& work) noexcept {
  if (Worker* other = find_worker_executing(work)) {
    move_to(*other, work);
    return false;
  }
  move_to(worker, work);
  return true;
}

void WorkerPool::process_scheduled(Worker& worker, std::unique_lock<platform::Mutex>& under) {
  while (!worker.scheduled_.empty()) process(worker, worker.scheduled_.front(), under);
}

void WorkerPool::process(Worker& worker, Work& work, std::unique_lock<platform::Mutex>& under) {
  const WorkFunction function = WorkAccess::function(work);
  worker.current_work_ = &work;
  worker.current_function_ = function;
  worker.current_workqueue_ = WorkAccess::workqueue_of(WorkAccess::data(work).load(std::memory_order_relaxed));
  worker.next_busy_ = busy_;
  busy_ = &worker;
  stats_.executed++;
  WorkList::erase(work);
  // Clears PENDING: from here on it can be queued again (rule 4). The read-modify-write takes in what a losing
  // queue_work released with its own one on the same word.
  WorkAccess::replace(work, WorkAccess::pool_bits(number_));
  under.unlock();
  // Pairs with the read-modify-write of a queue_work that still saw PENDING: what its caller wrote before, the function
  // reads after (rule 2). Kernel: the smp_mb() in set_work_pool_and_clear_pending.
  platform::fence(std::memory_order_seq_cst);

  set_blocking_observer(&worker);
  function(work);  // may free the work: not touched from here on (rule 6)
  set_blocking_observer(nullptr);

  under.lock();
  worker.current_work_ = nullptr;
  worker.current_workqueue_ = -1;
  Worker** link = &busy_;
  while (*link != &worker) link = &(*link)->next_busy_;
  *link = worker.next_busy_;
  worker.next_busy_ = nullptr;
}

void WorkerPool::serve(std::uint64_t token, std::unique_lock<platform::Mutex>& under) {
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
    source.function_(source.context_);
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
    Workqueue& workqueue = *WorkAccess::workqueue(work);
    const int cpu = WorkAccess::cpu(work);
    under.unlock();
    engine_.insert(cpu, workqueue, work.work());
    under.lock();
  }
  reset_alarm();
}

}  // namespace upci::inline UPCI_VARIANT
