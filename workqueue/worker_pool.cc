// SPDX-License-Identifier: Apache-2.0
#include "workqueue/worker_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/log.h"
#include "workqueue/engine_state.h"
#include "workqueue/lifetime.h"

namespace upci::inline UPCI_VARIANT {

WorkerPool::WorkerPool(EngineState& engine, int number, Identity identity, platform::EventQueue events)
    : engine_(engine), number_(number), events_(std::move(events)) {
  assume(std::move(identity));
}

WorkerPool::~WorkerPool() = default;

Result<std::unique_ptr<WorkerPool>> WorkerPool::create(EngineState& engine, int number, Identity identity) {
  UPCI_TRY_ASSIGN(platform::EventQueue events, platform::EventQueue::create());
  return std::unique_ptr<WorkerPool>(new WorkerPool(engine, number, std::move(identity), std::move(events)));
}

// --- works ---

void WorkerPool::push(Work& work) noexcept {
  WorkNode& node = WorkAccess::node(work);
  WorkNode* newest = inbox_.load(std::memory_order_relaxed);
  do {
    node.next = newest;
    // From a success on the work may run, and its function may free it.
  } while (!inbox_.compare_exchange_weak(newest, &node, std::memory_order_seq_cst, std::memory_order_relaxed));
  // Either this sees that nobody runs, or the worker that stops counting sees the item (has_work() after stop_counting():
  // all four accesses are sequentially consistent).
  if (nr_running_.load(std::memory_order_seq_cst) == 0) wake_one();
}

/// Makes an idle worker look. When there is none, one is being created, or the overseer tries to; when it is a matter of
/// a moment until one is idle, that one looks at the inbox after it has said so.
void WorkerPool::wake_one() noexcept {
  if (nr_idle_.load(std::memory_order_seq_cst) == 0 || spinning_.load(std::memory_order_seq_cst)) return;
  // One notification at a time: the worker that it wakes clears this before it looks, and wakes the next if need be.
  if (!wake_pending_.exchange(true, std::memory_order_seq_cst)) events_.notify();
}

FollowUp WorkerPool::remove(Work& work) noexcept {
  const std::uint64_t data = WorkAccess::data(work).load(std::memory_order_relaxed);
  const std::uint32_t place = WorkAccess::place(work);
  const bool inactive = (place & WorkAccess::kInactive) != 0;
  // A barrier that was linked behind the work completes where it stands, but an inactive list is no place to stand alone.
  if (inactive && (place & WorkAccess::kLinked) != 0) {
    WorkList::move_linked(WorkAccess::from_node(*WorkAccess::node(work).next), worklist_);
  }
  WorkList::erase(work);
  WorkAccess::set_place(work, 0);
  WorkAccess::replace(work, WorkAccess::kPending | WorkAccess::pool_bits(number_));
  FollowUp next;
  if (PoolWorkqueue* pwq = pwq_of(WorkAccess::workqueue_of(data))) {
    next = finish(*pwq, WorkAccess::color_of(place), !inactive);
  }
  kick();
  return next;
}

void WorkerPool::insert_barrier(FlushBarrier& barrier, Work& target, Worker* worker) noexcept {
  std::uint32_t linked = 0;
  WorkNode* position = nullptr;
  if (worker != nullptr) {
    position = worker->scheduled_.begin();
  } else {
    // Others may have flushed the same work before: their barriers are linked behind it, ours goes between.
    position = WorkAccess::node(target).next;
    linked = WorkAccess::place(target) & WorkAccess::kLinked;
    WorkAccess::set_place(target, WorkAccess::place(target) | WorkAccess::kLinked);
  }
  WorkAccess::replace(barrier, WorkAccess::kPending | WorkAccess::pool_bits(number_));
  WorkAccess::set_place(barrier, WorkAccess::place_bits(number_) | linked);
  WorkList::insert_before(position, barrier);
}

Worker* WorkerPool::find_worker_executing(const Work& work) noexcept {
  for (Worker* worker = busy_bucket(&work); worker != nullptr; worker = worker->next_busy_) {
    if (worker->current_work_ == &work && worker->current_function_ == WorkAccess::function(work)) return worker;
  }
  return nullptr;
}

void WorkerPool::write_off(Worker& worker) noexcept {
  if (worker.written_off_) return;
  worker.written_off_ = true;
  stats_.written_off++;
  stop_counting(worker);
  kick();
}

void WorkerPool::kick() noexcept {
  if (need_more_worker()) wake_one();
}

// --- pwqs ---

void WorkerPool::install(PoolWorkqueue& pwq) {
  const auto number = static_cast<std::size_t>(pwq.queue->number());
  if (pwqs_.size() <= number) pwqs_.resize(std::max(number + 1, pwqs_.size() * 2));
  if (pwqs_[number] == nullptr) nr_pwqs_++;
  pwqs_[number] = &pwq;
}

void WorkerPool::uninstall(int queue) noexcept {
  if (pwq_of(queue) == nullptr) return;
  pwqs_[static_cast<std::size_t>(queue)] = nullptr;
  nr_pwqs_--;
}

// --- timers ---

void WorkerPool::arm_timer(DelayedWork& work, platform::TimePoint expires) noexcept {
  timers_.insert(WorkAccess::timer(work), expires);
  if (timers_.top() == &WorkAccess::timer(work)) reset_alarm();
}

void WorkerPool::disarm_timer(DelayedWork& work) noexcept {
  // The alarm stays as it is: coming for nothing once costs less than setting it each time.
  timers_.erase(WorkAccess::timer(work));
}

void WorkerPool::reset_alarm() noexcept {
  events_.set_alarm(timers_.top() != nullptr ? timers_.top()->expires : platform::kNever);
}

// --- event sources ---

Result<void> WorkerPool::add_source(EventSource& source, int fd) {
  {
    std::lock_guard guard(lock_);
    if (source.pool_ != nullptr) return fail(Errc::kState, "event source added twice", "remove it first");
    source.fd_ = fd;
    source.pool_ = this;
    source.removed_ = false;
    source.token_ = next_token_++;
    sources_.emplace(source.token_, &source);
  }
  if (auto added = events_.add(fd, source.token_); !added) {
    std::lock_guard guard(lock_);
    sources_.erase(source.token_);
    source.pool_ = nullptr;
    return std::unexpected(std::move(added).error());
  }
  return {};
}

void WorkerPool::remove_source(EventSource& source) noexcept {
  if (auto removed = events_.remove(source.fd_); !removed) {
    log::warn("event source: fd {} was closed before it was removed: {}", source.fd_, removed.error().message());
  }
  std::unique_lock under(lock_);
  sources_.erase(source.token_);
  source.removed_ = true;
  while (source.running_) {
    const std::uint32_t ended = source_ended_.load(std::memory_order_acquire);
    under.unlock();
    BlockingScope blocking;
    platform::wait_word(source_ended_, ended);
    under.lock();
  }
  source.pool_ = nullptr;
}

// --- life ---

Result<void> WorkerPool::create_worker() {
  Worker* raw = nullptr;
  platform::Thread::Options options;
  {
    std::lock_guard guard(lock_);
    if (stopping_ || retired_) return fail(Errc::kState, "the pool is shutting down");
    reap();
    workers_.push_back(std::make_unique<Worker>(this, free_id(), false));
    raw = workers_.back().get();
    stats_.workers++;
    nr_workers_++;
    nr_idle_.fetch_add(1, std::memory_order_seq_cst);  // it will wait, or find work: either way it is there
    options.name = thread_name(raw->id_);
    if (identity_.kind != Kind::kUnbound && !disassociated_) options.cpu = identity_.cpu.os_cpu;
    raw->loose_ = options.cpu < 0;
  }
  const auto body = [raw, keep = engine_.shared_from_this()] {
    raw->pool().run(*raw);
    raw->exited_.complete();  // whoever joins waits for this; the thread touches only `keep` after it
  };
  auto thread = platform::Thread::create(options, body);
  if (!thread && options.cpu >= 0 && !cpu_is_online()) {
    options.cpu = -1;  // elsewhere until the CPU is back, like the other workers; see come_home()
    raw->loose_ = true;
    thread = platform::Thread::create(std::move(options), body);
  }
  std::lock_guard guard(lock_);
  raw->made_ = true;
  if (!thread) {
    nr_idle_.fetch_sub(1, std::memory_order_seq_cst);
    nr_workers_--;
    raw->exited_.complete();
    return std::unexpected(std::move(thread).error());
  }
  raw->thread_ = std::move(*thread);
  if (raw->passed_by_) raw->thread_.detach();
  return {};
}

std::string WorkerPool::thread_name(unsigned id) const {
  switch (identity_.kind) {
    case Kind::kUnbound: return fmt::format("kworker/u{}:{}", number_, id);
    case Kind::kBh: return fmt::format("kworker/{}:{}{}", identity_.cpu.id, id, identity_.nice < 0 ? "BH" : "B");
    case Kind::kPercpu: break;
  }
  return fmt::format("kworker/{}:{}{}", identity_.cpu.id, id, identity_.nice < 0 ? "H" : "");
}

unsigned WorkerPool::free_id() const {
  std::vector<bool> taken(workers_.size() + 1);
  for (const auto& worker : workers_) {
    if (worker->id_ < taken.size()) taken[worker->id_] = true;
  }
  return static_cast<unsigned>(std::ranges::find(taken, false) - taken.begin());
}

// Workers that were culled, or written off and have come back, end by themselves; nobody else joins them.
void WorkerPool::reap() {
  std::erase_if(workers_, [](const std::unique_ptr<Worker>& worker) {
    if (!worker->made_ || !worker->exited_.is_complete()) return false;
    if (worker->thread_.joinable()) worker->thread_.join();
    return true;
  });
}

bool WorkerPool::cpu_is_online() const {
  const std::vector<int> online = platform::online_cpus();
  return std::find(online.begin(), online.end(), identity_.cpu.os_cpu) != online.end();
}

void WorkerPool::stop() noexcept {
  std::lock_guard guard(lock_);
  stopping_ = true;
  take_inbox();  // and drops it
  const auto drop = [this](WorkList& list) {
    while (!list.empty()) {
      Work& work = list.front();
      WorkList::erase(work);
      WorkAccess::set_place(work, 0);
      // Somebody may still flush what is dropped: a barrier's function lets him go.
      const bool barrier = WorkAccess::workqueue_of(WorkAccess::data(work).load(std::memory_order_relaxed)) < 0;
      if (!barrier) lifetime::note_idle(work);
      WorkAccess::replace(work, WorkAccess::pool_bits(number_));
      if (barrier) FlushBarrier::complete(work);
    }
  };
  drop(worklist_);
  for (PoolWorkqueue* pwq : pwqs_) {
    if (pwq != nullptr) drop(pwq->inactive);
  }
  while (Timer* timer = timers_.pop_expired(platform::kNever)) {
    lifetime::note_idle(timer->owner.work());
    WorkAccess::replace(timer->owner.work(), 0);
  }
  events_.notify();
}

void WorkerPool::retire() noexcept {
  std::lock_guard guard(lock_);
  retired_ = true;
  events_.notify();
}

void WorkerPool::reuse(Identity identity) {
  std::lock_guard guard(lock_);
  reap();
  assume(std::move(identity));
  retired_ = false;
}

void WorkerPool::assume(Identity identity) {
  identity_ = std::move(identity);
  restart_watchdog(platform::Clock::now());
  os_cpus_.clear();
  os_pod_ = {};
  if (identity_.kind != Kind::kUnbound) return;
  for (const int cpu : identity_.cpus.list()) {
    const int os_cpu = engine_.topology().find(cpu)->os_cpu;
    if (std::ranges::find(os_cpus_, os_cpu) == os_cpus_.end()) os_cpus_.push_back(os_cpu);
  }
  for (const int cpu : identity_.pod.list()) os_pod_.add(engine_.topology().find(cpu)->os_cpu);
}

bool WorkerPool::at_rest() {
  std::lock_guard guard(lock_);
  return nr_workers_ == 0;
}

void WorkerPool::note_lack() {
  std::lock_guard guard(lock_);
  lacks_worker_ = true;
}

/// A rescuer comes to work here; by its own thread.
void WorkerPool::host(Worker& rescuer) {
  rescuer.pool_ = this;
  if (identity_.kind == Kind::kUnbound) {
    (void)platform::this_thread::set_cpus(os_cpus_);
  } else if (!platform::this_thread::set_cpu(identity_.cpu.os_cpu)) {
    (void)platform::this_thread::set_cpus(engine_.os_cpus());  // the CPU is away
  }
}

bool WorkerPool::has_waiting_items() const noexcept {
  if (has_work()) return true;
  return std::ranges::any_of(pwqs_, [](const PoolWorkqueue* pwq) {
    return pwq != nullptr && !pwq->inactive.empty() && !pwq->queue->is_frozen();
  });
}

std::string WorkerPool::describe() const {
  switch (identity_.kind) {
    case Kind::kUnbound: return fmt::format("unbound, CPUs {}, nice {}", identity_.pod.to_string(), identity_.nice);
    case Kind::kBh: return fmt::format("bottom halves of CPU {}, nice {}", identity_.cpu.id, identity_.nice);
    case Kind::kPercpu: break;
  }
  return fmt::format("CPU {}, nice {}{}", identity_.cpu.id, identity_.nice, disassociated_ ? ", its CPU is away" : "");
}

std::size_t WorkerPool::join(Deadline deadline) {
  std::size_t stuck = 0;
  // A worker that was creating another one when stop() came has put it behind itself: by index, and the size each time.
  for (std::size_t i = 0;; i++) {
    Worker* worker = nullptr;
    {
      std::lock_guard guard(lock_);
      if (i == workers_.size()) return stuck;
      worker = workers_[i].get();
    }
    const bool exited = worker->exited_.wait(deadline);
    {
      std::lock_guard guard(lock_);
      worker->passed_by_ = true;
      if (!worker->made_ || !worker->thread_.joinable()) continue;
    }
    if (exited) {
      worker->thread_.join();
    } else {
      worker->thread_.detach();
      stuck++;
    }
  }
}

PoolStats WorkerPool::stats() {
  std::lock_guard guard(lock_);
  return stats_;
}

}  // namespace upci::inline UPCI_VARIANT
