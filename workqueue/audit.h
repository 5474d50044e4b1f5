// SPDX-License-Identifier: Apache-2.0
// What can still queue a work: to be asked before it is destroyed (Engine::what_can_queue).
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/platform.h"
#include "base/stack.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

/// Somebody who has queued a work before and may do so again. In the order in which they have to be stopped: what comes
/// earlier can set off what comes later.
struct Requester {
  enum class Kind : std::uint8_t {
    kEventSource,  // an interrupt: mask it, remove_event_source
    kThread,       // a thread that is no worker: stop it, or take from it what leads to the work
    kItem,         // another item: cancel_work_sync that one first
    kGracePeriod,  // that of its RcuWork: flush_rcu_work
    kTimer,        // the timer of its DelayedWork: cancel_delayed_work_sync
    kItself,       // it requeues itself: cancel_work_sync, which keeps it from doing so
  };
  Kind kind = Kind::kThread;
  std::string name = {};    // which one: the descriptor and its function, a thread's id, a function and its workqueue
  std::uint64_t times = 0;  // how often it was seen
  bool armed = false;       // kTimer, kGracePeriod: the work waits for it now. A hint, but exact for a DelayedWork
  StackTrace stack = {};    // of the last time
};
std::string_view to_string(Requester::Kind kind) noexcept;
/// One line for each, numbered in their order, with what to call. "nothing" when there are none.
std::string to_text(const std::vector<Requester>& requesters);

class DelayedWork;
class EngineState;
class QueueState;

/// Who queued which work, by the work's address and function. Kept with Engine::Options::keep_requesters. Bounded:
/// kMostWorks works, kMostEach requesters of each; when it is full it begins anew.
///
/// H = lock_.
class QueueingHistory {
 public:
  /// By the caller that queues, before the work can run. `then`: what it sets going, which will queue the work later.
  void note(EngineState& engine, const Work& work, std::optional<Requester::Kind> then = std::nullopt);
  std::vector<Requester> find(const Work& work) const;

 private:
  static constexpr std::size_t kMostWorks = 4096;
  static constexpr std::size_t kMostEach = 8;
  struct Seen {
    Requester::Kind kind = Requester::Kind::kThread;
    WorkFunction function{nullptr};     // kItem
    const QueueState* queue = nullptr;  // kItem; only compared
    std::string queue_name = {};        // kItem
    std::int64_t number = 0;            // the descriptor or the thread
    std::uintptr_t top_half = 0;        // kEventSource: its function
    std::uint64_t times = 0;
    StackTrace stack = {};
  };
  struct History {
    WorkFunction function{nullptr};
    std::vector<Seen> seen = {};
  };
  mutable platform::Mutex lock_;
  std::unordered_map<const Work*, History> works_;  // H
};

}  // namespace upci::inline UPCI_VARIANT
