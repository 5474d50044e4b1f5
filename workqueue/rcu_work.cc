// SPDX-License-Identifier: Apache-2.0
// Grace periods. Kernel: srcu_readers_active_idx_check, srcu_flip, queue_rcu_work, flush_rcu_work.
//
// A section is counted on one of two sides. A grace period first waits until nobody is left on the side that is not in use
// (stragglers: they had read which side to take, and took it only after the one before had looked), then makes that side
// the one in use, and waits for the other. Who began before is on one of the two; who begins later is on the new side and
// delays nobody.
#include "workqueue/rcu_work.h"

#include <algorithm>
#include <mutex>

#include "base/wait.h"
#include "workqueue/engine_state.h"
#include "workqueue/grab.h"
#include "workqueue/lifetime.h"
#include "workqueue/untracked_waits.h"

namespace upci::inline UPCI_VARIANT {

namespace {

using namespace std::chrono_literals;
constexpr platform::Nanoseconds kFirstPause = 50us;
constexpr platform::Nanoseconds kLongestPause = 5ms;
constexpr std::size_t kMostSlots = 1024;

struct Synchronizer : RcuHead {
  Synchronizer() noexcept
      : RcuHead([](RcuHead& head, EngineState*) { static_cast<Synchronizer&>(head).over.complete(); }) {}
  Completion over;
};

}  // namespace

RcuWork::Head::Head(RcuWork& work) noexcept
    : RcuHead([](RcuHead& head, EngineState* engine) {
        RcuWork& rcu = static_cast<Head&>(head).owner;
        if (engine == nullptr) return release_pending(rcu.work_);  // dropped, as all that is pending then
        engine->queue_owned(rcu.cpu_, static_cast<QueueState&>(*rcu.workqueue_), rcu.work_);
      }),
      owner(work) {}

RcuDomain::RcuDomain(EngineState& engine) : engine_(engine) {
  const std::vector<int> cpus = platform::online_cpus();
  if (!cpus.empty()) nr_slots_ = std::min(kMostSlots, static_cast<std::size_t>(cpus.back()) + 1);
  slots_ = std::make_unique<Slot[]>(nr_slots_);
}

RcuDomain::~RcuDomain() = default;

RcuDomain::Slot& RcuDomain::slot() const noexcept {
  return slots_[static_cast<std::size_t>(std::max(0, platform::this_thread::current_cpu())) % nr_slots_];
}

int RcuDomain::read_lock() noexcept {
  const unsigned side = side_.load(std::memory_order_relaxed) & 1;
  // Sequentially consistent, with the loads of nobody_reads(): either the count is seen there, or what the updater wrote
  // before it asked is seen in the section.
  slot().begun[side].fetch_add(1, std::memory_order_seq_cst);
  return static_cast<int>(side);
}

void RcuDomain::read_unlock(int section) noexcept {
  // What the section read, it read before: pairs with the loads of nobody_reads().
  slot().ended[section & 1].fetch_add(1, std::memory_order_seq_cst);
}

/// Ends first: an end that is counted has a beginning that is counted too, wherever its thread has moved meanwhile.
bool RcuDomain::nobody_reads(unsigned side) const noexcept {
  std::uint64_t ended = 0;
  std::uint64_t begun = 0;
  for (std::size_t i = 0; i < nr_slots_; i++) ended += slots_[i].ended[side].load(std::memory_order_seq_cst);
  platform::fence(std::memory_order_seq_cst);
  for (std::size_t i = 0; i < nr_slots_; i++) begun += slots_[i].begun[side].load(std::memory_order_seq_cst);
  return begun == ended;
}

/// True when the phase has changed. Under the lock.
bool RcuDomain::step() noexcept {
  const std::uint32_t side = side_.load(std::memory_order_relaxed);
  switch (phase_) {
    case Phase::kIdle:
      if (waiting_ == nullptr) return false;
      current_ = std::exchange(waiting_, nullptr);
      waiting_end_ = &waiting_;
      phase_ = Phase::kStragglers;
      return true;
    case Phase::kStragglers:
      if (!nobody_reads((side + 1) & 1)) return false;
      side_.store(side + 1, std::memory_order_seq_cst);
      phase_ = Phase::kReaders;
      return true;
    case Phase::kReaders:
      if (!nobody_reads((side + 1) & 1)) return false;
      phase_ = Phase::kIdle;
      return true;
  }
  return false;
}

/// Goes on with the grace period as far as readers let it. Whoever ends one tells all that waited for it.
void RcuDomain::advance() noexcept {
  for (;;) {
    RcuHead* over = nullptr;
    {
      std::lock_guard guard(lock_);
      if (stopped_) return;
      while (step()) {
        pause_ = kFirstPause;
        if (phase_ != Phase::kIdle) continue;
        over = std::exchange(current_, nullptr);
        break;
      }
      if (over == nullptr) {
        if (phase_ == Phase::kIdle) return;
        if (take_pending(poll_.work())) {
          engine_.arm(engine_.local_cpu(), engine_.system(3), poll_, pause_);
          pause_ = std::min(2 * pause_, kLongestPause);
        }
        return;
      }
    }
    while (over != nullptr) {
      RcuHead& head = *over;
      over = head.next;  // from its function on the head may be gone
      head.done(head, &engine_);
    }
  }
}

void RcuDomain::poll(Work&) { advance(); }

void RcuDomain::wait_for_grace_period(RcuHead& head) noexcept {
  {
    std::lock_guard guard(lock_);
    head.next = nullptr;
    *waiting_end_ = &head;
    waiting_end_ = &head.next;
  }
  advance();
}

void RcuDomain::synchronize() {
  const UntrackedWaits for_readers;  // not for whichever item finds that they have left
  Synchronizer self;
  wait_for_grace_period(self);
  self.over.wait();
}

bool RcuDomain::queue(Workqueue& wq, RcuWork& work) noexcept {
  QueueState* queue = engine_.checked(wq, "queue_rcu_work");
  if (queue == nullptr) return false;
  if (!WorkAccess::has_function(work.work_)) {
    engine_.report_caller(Report::Kind::kMisuse, "queue_rcu_work: the work has no function");
    return false;
  }
  if (!take_pending(work.work_)) return false;
  work.workqueue_ = queue;
  work.cpu_ = engine_.local_cpu();
  lifetime::note_awaits_readers(engine_, work.work_);
  if (engine_.keeps_history()) [[unlikely]]
    engine_.history().note(engine_, work.work_, Requester::Kind::kGracePeriod);
  wait_for_grace_period(work.head_);
  return true;
}

/// The engine ends: who waits will not run, and is let go.
void RcuDomain::stop() noexcept {
  RcuHead* dropped[2] = {};
  {
    std::lock_guard guard(lock_);
    stopped_ = true;
    dropped[0] = std::exchange(current_, nullptr);
    dropped[1] = std::exchange(waiting_, nullptr);
    waiting_end_ = &waiting_;
  }
  for (RcuHead* head : dropped) {
    while (head != nullptr) {
      RcuHead& one = *head;
      head = one.next;
      one.done(one, nullptr);
    }
  }
}

bool Engine::queue_rcu_work(Workqueue& wq, RcuWork& work) noexcept { return state_->rcu().queue(wq, work); }

bool Engine::flush_rcu_work(RcuWork& work) noexcept {
  if (!work.is_pending()) return flush_work(work.work());
  state_->rcu().synchronize();  // those that waited before us have been queued by then
  flush_work(work.work());
  return true;
}

RcuDomain& Engine::rcu() noexcept { return state_->rcu(); }

}  // namespace upci::inline UPCI_VARIANT
