// SPDX-License-Identifier: Apache-2.0
// Notes that queueing and running leave behind when asked to: times, the caller's stack, events of a trace. One predicted
// branch each when not.
#pragma once

#include <memory>

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT::latency {

/// Before the push: the caller still owns the work. `pool_cpu`: of the pool, or -1.
inline void note_queued(EngineState& engine, const QueueState& queue, Work& work, int req_cpu, int pool_cpu) noexcept {
  if (engine.notes().bits() != 0) [[unlikely]]
    engine.note_queueing(queue, work, req_cpu, pool_cpu);
}

/// One run of an item, from just before PENDING is cleared, while the work still is the worker's.
class Run {
 public:
  Run(EngineState& engine, Work& work, const WorkFunction& function, const PoolWorkqueue* pwq, int pool_cpu) noexcept
      : bits_(engine.notes().bits()) {
    if (bits_ == 0) [[likely]]
      return;
    engine_ = &engine;
    std::construct_at(&note_, RunNote{.work = &work,
                                      .function = function.address(),
                                      .queue = pwq != nullptr ? pwq->queue : nullptr,
                                      .cpu = pool_cpu,
                                      .queued_at = WorkAccess::queued_at(work)});
  }
  /// Right before the function is called.
  void started() noexcept {
    if (bits_ != 0) [[unlikely]]
      engine_->note_start(note_);
  }
  /// Right after it has returned.
  void ended() noexcept {
    if (bits_ != 0) [[unlikely]]
      engine_->note_end(note_);
  }

 private:
  const std::uint32_t bits_;
  EngineState* engine_;  // set when bits_ is not 0
  union {
    RunNote note_;  // likewise; in a union, so that nobody pays for zeroes when it is not
  };
};

/// The worker of this thread id sleeps in its item, or goes on.
inline void note_sleep(EngineState& engine, platform::ThreadId thread, bool asleep) noexcept {
  if ((engine.notes().bits() & NoteSwitch::kTrace) != 0) [[unlikely]]
    engine.note_sleep(thread, asleep);
}

}  // namespace upci::inline UPCI_VARIANT::latency
