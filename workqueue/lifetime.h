// SPDX-License-Identifier: Apache-2.0
// Finds works that are destroyed, or made anew in their place, while they are pending or running. In builds with
// UPCI_CHECK_LIFETIME (the presets debug and asan); elsewhere nothing of this exists. Kernel: debugobjects
// (CONFIG_DEBUG_OBJECTS_WORK), which looks at pending ones only.
//
// A work has no pointer to its engine, so pending and running ones are in one table of the process, by their address, with
// the stack of their queueing. What is found is reported (Report::Kind::kLifetime) with the stack of whoever destroys, that
// of whoever queued, where a running one is, and what is known to queue the work again. Then the process is trapped; with a
// sink of its own (Options::report) it goes on: a pending work is cancelled, timer included, so that no list is left with a
// hole. A running one cannot be helped.
//
// A running work may be freed: by its own function (rule 6), and by whoever knows that its function touches it no more. What
// somebody else knows cannot be seen from here, so a function gets kLastWords to return after its work has gone; the
// destructor waits for that. A function that goes on for longer says so first, by hand_over().
#pragma once

#include <chrono>

#include "workqueue/lifetime_guard.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

class DelayedWork;
class EngineState;
class Worker;

namespace lifetime {

#if defined(UPCI_CHECK_LIFETIME)
inline constexpr bool kChecked = true;
/// From telling somebody that the work is done to the function's return; long, since the thread may be preempted there.
inline constexpr std::chrono::nanoseconds kLastWords = std::chrono::seconds(1);
/// Before the work can run; the caller owns PENDING. `timer`: it waits for that one first.
void note_queued(EngineState& engine, Work& work, DelayedWork* timer) noexcept;
/// The same; it waits for a grace period first, from which it cannot be taken back.
void note_awaits_readers(EngineState& engine, Work& work) noexcept;
/// Before PENDING is cleared, other than by a run.
void note_idle(const Work& work) noexcept;
void note_running(const Work& work, const Worker& worker) noexcept;
/// The run has ended; the work may be gone, or another one may be there.
void note_ended(const Work* work, const Worker& worker) noexcept;
/// Nothing of this engine is pending any more.
void forget(const EngineState& engine) noexcept;
/// By the work's own function, while the work is still there: from now on anybody may free it, however long the function
/// goes on. Nothing in builds that do not check.
void hand_over(const Work& work) noexcept;
#else
inline constexpr bool kChecked = false;
inline void note_queued(EngineState&, Work&, DelayedWork*) noexcept {}
inline void note_awaits_readers(EngineState&, Work&) noexcept {}
inline void note_idle(const Work&) noexcept {}
inline void note_running(const Work&, const Worker&) noexcept {}
inline void note_ended(const Work*, const Worker&) noexcept {}
inline void forget(const EngineState&) noexcept {}
inline void hand_over(const Work&) noexcept {}
#endif

}  // namespace lifetime
}  // namespace upci::inline UPCI_VARIANT
