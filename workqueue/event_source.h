// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

class WorkerPool;

/// A descriptor (an interrupt's eventfd, a socket) that a CPU's worker serves. The idle worker of that CPU waits for its
/// event sources and for work at the same place, calls the source, and goes on with the work that the source queued: one
/// wake-up from the event to the bottom half.
class EventSource {
 public:
  using Function = void (*)(void* context);
  /// `function` is the top half: it runs on the source's CPU, never twice at once, and must not block. It must drain the
  /// descriptor: events are edge-triggered.
  EventSource(Function function, void* context) noexcept : function_(function), context_(context) {}
  EventSource(const EventSource&) = delete;
  EventSource& operator=(const EventSource&) = delete;

 private:
  friend class Engine;
  friend class WorkerPool;
  const Function function_;
  void* const context_;
  int fd_ = -1;                 // written by Engine::add_event_source before the source is published
  std::uint64_t token_ = 0;     // the same
  WorkerPool* pool_ = nullptr;  // the same
  bool running_ = false;        // the pool's lock
  bool again_ = false;          // the pool's lock: an event came while the function ran
  bool removed_ = false;        // the pool's lock
};

}  // namespace upci::inline UPCI_VARIANT
