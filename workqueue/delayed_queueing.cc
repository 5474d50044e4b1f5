// SPDX-License-Identifier: Apache-2.0
// queue_delayed_work and mod_delayed_work. Kernel: queue_delayed_work_on, mod_delayed_work_on, flush_delayed_work.
#include <fmt/format.h>

#include "workqueue/engine_state.h"
#include "workqueue/grab.h"

namespace upci::inline UPCI_VARIANT {

namespace {

/// The CPU to use, or -1 after a report.
int usable_cpu(EngineState& state, int cpu, const DelayedWork& work, const char* call) noexcept {
  const int target = cpu == Engine::kAnyCpu ? state.local_cpu() : cpu;
  if (state.cpu_index(target) < 0) {
    state.report_caller(Report::Kind::kMisuse, fmt::format("{}: there is no CPU {}", call, cpu));
    return -1;
  }
  if (!WorkAccess::has_function(work.work())) {
    state.report_caller(Report::Kind::kMisuse, fmt::format("{}: the work has no function", call));
    return -1;
  }
  return target;
}

}  // namespace

bool take_pending(Work& work) noexcept {
  auto& data = WorkAccess::data(work);
  std::uint64_t old = data.load(std::memory_order_relaxed);
  for (;;) {
    const bool free = (old & (WorkAccess::kPending | WorkAccess::kDisabledMask)) == 0;
    const std::uint64_t wanted = free ? old | WorkAccess::kPending : old;
    if (data.compare_exchange_weak(old, wanted, std::memory_order_seq_cst, std::memory_order_relaxed)) return free;
  }
}

bool Engine::queue_delayed_work_on(int cpu, Workqueue& wq, DelayedWork& work, std::chrono::nanoseconds delay) noexcept {
  QueueState* queue = state_->checked(wq, "queue_delayed_work");
  const int target = usable_cpu(*state_, cpu, work, "queue_delayed_work");
  if (queue == nullptr || target < 0) return false;
  if (delay <= std::chrono::nanoseconds::zero()) return state_->queue(target, *queue, work.work());
  if (!take_pending(work.work())) return false;
  state_->arm(target, *queue, work, delay);
  return true;
}

bool Engine::mod_delayed_work_on(int cpu, Workqueue& wq, DelayedWork& work, std::chrono::nanoseconds delay) noexcept {
  QueueState* queue = state_->checked(wq, "mod_delayed_work");
  const int target = usable_cpu(*state_, cpu, work, "mod_delayed_work");
  if (queue == nullptr || target < 0) return false;
  const Grabbed grabbed = grab_pending(*state_, work.work(), &work);
  if (grabbed == Grabbed::kDisabled) return false;
  const bool was_pending = grabbed == Grabbed::kWasPending;
  if (was_pending) lifetime::note_idle(work.work());  // what it waited for before does not matter any more
  if (is_disabled(work.work())) {
    // Disabled since: whoever did that waits for PENDING to go.
    release_pending(work.work());
  } else if (delay <= std::chrono::nanoseconds::zero()) {
    state_->queue_owned(target, *queue, work.work());
  } else {
    state_->arm(target, *queue, work, delay);
  }
  return was_pending;
}

bool Engine::flush_delayed_work(DelayedWork& work) noexcept {
  if (take_from_timer(work)) {
    auto& queue = static_cast<QueueState&>(*WorkAccess::workqueue(work));
    state_->queue_owned(WorkAccess::cpu(work), queue, work.work());
  }
  return flush_work(work.work());
}

}  // namespace upci::inline UPCI_VARIANT
