// SPDX-License-Identifier: Apache-2.0
// Notes that a queueing leaves behind when asked to: its time, its caller's stack. One predicted branch when not.
#pragma once

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT::latency {

inline void note_queued(EngineState& engine, Work& work) noexcept {
  if (engine.notes_queueing()) [[unlikely]]
    engine.note_queueing(work);
}

}  // namespace upci::inline UPCI_VARIANT::latency
