// SPDX-License-Identifier: Apache-2.0
#include "workqueue/worker_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/log.h"
#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

WorkerPool::WorkerPool(EngineState& engine, int number, Topology::Cpu cpu, Workqueue::Priority priority,
                       platform::EventQueue events)
    : engine_(engine), number_(number), cpu_(cpu), priority_(priority), events_(std::move(events)) {}

WorkerPool::~WorkerPool() = default;

Result<std::unique_ptr<WorkerPool>> WorkerPool::create(EngineState& engine, int number, Topology::Cpu cpu,
                                                       Workqueue::Priority priority) {
  UPCI_TRY_ASSIGN(platform::EventQueue events, platform::EventQueue::create());
  return std::unique_ptr<WorkerPool>(new WorkerPool(engine, number, cpu, priority, std::move(events)));
}

// --- works ---

void WorkerPool::insert(Work& work, int workqueue) noexcept {
  if (stopping_) {
    WorkAccess::replace(work, WorkAccess::pool_bits(number_));
    return;
  }
  WorkAccess::replace(work, WorkAccess::kPending | WorkAccess::kQueued | WorkAccess::pool_bits(number_) |
                                WorkAccess::workqueue_bits(workqueue));
  worklist_.push_back(work);
  kick();
}

void WorkerPool::remove(Work& work) noexcept {
  WorkList::erase(work);
  // A barrier that was linked behind the work stays where it is and completes there.
  WorkAccess::replace(work, WorkAccess::kPending | WorkAccess::pool_bits(number_));
}

void WorkerPool::insert_barrier(FlushBarrier& barrier, Work& target, Worker* worker) noexcept {
  std::uint64_t linked = 0;
  WorkNode* position = nullptr;
  if (worker != nullptr) {
    position = worker->scheduled_.begin();
  } else {
    // Others may have flushed the same work before: their barriers are linked behind it, ours goes between.
    position = WorkAccess::node(target).next;
    linked = WorkAccess::data(target).load(std::memory_order_relaxed) & WorkAccess::kLinked;
    WorkAccess::data(target).fetch_or(WorkAccess::kLinked, std::memory_order_relaxed);
  }
  WorkAccess::replace(barrier, WorkAccess::kPending | WorkAccess::kQueued | linked | WorkAccess::pool_bits(number_));
  WorkList::insert_before(position, barrier);
}

Worker* WorkerPool::find_worker_executing(const Work& work) noexcept {
  for (Worker* worker = busy_; worker != nullptr; worker = worker->next_busy_) {
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
  if (need_more_worker()) events_.notify();
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
  auto worker = std::make_unique<Worker>(*this);
  Worker* raw = worker.get();
  std::size_t id = 0;
  {
    std::lock_guard guard(lock_);
    if (stopping_) return fail(Errc::kState, "the engine is shutting down");
    reap();
    id = stats_.workers++;
    workers_.push_back(std::move(worker));
    nr_idle_++;  // it will wait, or find work: either way it is there
  }
  platform::Thread::Options options;
  options.name = fmt::format("kworker/{}:{}{}", cpu_.id, id, priority_ == Workqueue::Priority::kHigh ? "H" : "");
  options.cpu = cpu_.os_cpu;
  const auto body = [raw, keep = engine_.shared_from_this()] {
    raw->pool().run(*raw);
    raw->exited_.complete();  // whoever joins waits for this; the thread touches only `keep` after it
  };
  auto thread = platform::Thread::create(options, body);
  if (!thread && !cpu_is_online()) {
    options.cpu = -1;  // elsewhere until the CPU is back, like the other workers; see come_home()
    thread = platform::Thread::create(std::move(options), body);
  }
  std::lock_guard guard(lock_);
  if (!thread) {
    nr_idle_--;
    raw->exited_.complete();
    return std::unexpected(std::move(thread).error());
  }
  raw->thread_ = std::move(*thread);
  return {};
}

// Workers that were written off and have come back end by themselves; nobody else joins them.
void WorkerPool::reap() {
  std::erase_if(workers_, [](const std::unique_ptr<Worker>& worker) {
    if (!worker->exited_.is_complete()) return false;
    if (worker->thread_.joinable()) worker->thread_.join();
    return true;
  });
}

bool WorkerPool::cpu_is_online() const {
  const std::vector<int> online = platform::online_cpus();
  return std::find(online.begin(), online.end(), cpu_.os_cpu) != online.end();
}

void WorkerPool::stop() noexcept {
  std::lock_guard guard(lock_);
  stopping_ = true;
  while (!worklist_.empty()) {
    Work& work = worklist_.front();
    WorkList::erase(work);
    WorkAccess::replace(work, WorkAccess::pool_bits(number_));
  }
  while (Timer* timer = timers_.pop_expired(platform::kNever)) { WorkAccess::replace(timer->owner.work(), 0); }
  events_.notify();
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
    if (!worker->thread_.joinable()) continue;
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
