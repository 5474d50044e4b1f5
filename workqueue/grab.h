// SPDX-License-Identifier: Apache-2.0
// Taking PENDING over from whatever has it: a list, a timer, nobody. Kernel: try_to_grab_pending.
#pragma once

#include <cstdint>

#include "workqueue/delayed_work.h"
#include "workqueue/lifetime.h"
#include "workqueue/work_data.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;

/// Takes the work's PENDING over from its armed timer. False when none is armed.
bool take_from_timer(DelayedWork& work) noexcept;

enum class Grabbed : std::uint8_t {
  kWasIdle,     // the caller owns PENDING now
  kWasPending,  // the same; the work was taken off its list or timer
  kDisabled,    // idle and disabled: nothing is owned
};
/// Any context; waits only for the few instructions of another thread between PENDING and the list.
Grabbed grab_pending(EngineState& state, Work& work, DelayedWork* delayed) noexcept;

/// Makes a pending work idle. True when it was pending.
bool take_back(EngineState& state, Work& work, DelayedWork* delayed) noexcept;

inline void release_pending(Work& work) noexcept {
  lifetime::note_idle(work);
  WorkAccess::data(work).fetch_and(~WorkAccess::kPending, std::memory_order_release);
}

/// Takes PENDING of a work that is idle and not disabled. Each path is a read-modify-write, as in EngineState::queue.
bool take_pending(Work& work) noexcept;

inline bool is_disabled(Work& work) noexcept {
  return (WorkAccess::data(work).load(std::memory_order_acquire) & WorkAccess::kDisabledMask) != 0;
}

}  // namespace upci::inline UPCI_VARIANT
