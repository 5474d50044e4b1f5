// SPDX-License-Identifier: Apache-2.0
// Which items wait for what, and whether two such waits together can deadlock. Kernel: lockdep, as kernel/workqueue.c uses it
// (touch_wq_lockdep_map, touch_work_lockdep_map), and the completions of its cross-release.
//
// The nodes are classes, so that an order that was seen with one object is known for all of its kind:
//   item   (function, workqueue): what a driver means by "the reset work". Where the queue of an idle work is not known,
//          (function, any): it stands for the items of that function on every queue.
//   queue  a workqueue: flushing it waits for all that runs there.
// An edge says that an item of a class once waited for an item or for a queue. Two more kinds of waiting need no notes:
// a queue waits for whatever runs on it, and an item of a queue that runs one at a time waits for its turn, which any
// other item of that queue may have. A cancel waits for a run only, not for the turn: what is pending it takes back.
//
// A work that waits for another one of the same function (a parent for its children) says nothing about the function, so
// these waits are kept by object, and only two objects that wait for each other make a cycle. An object that is made anew
// at the same place is another one.
//
// Kept: kMostNodes and kMostEdges at most, with one stack for each edge; what comes later is not remembered (said once).
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/stack.h"
#include "workqueue/report.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;
class QueueState;
class Worker;

/// D = lock_; C = const; A = atomic. The lock is the innermost one: nothing is taken inside it.
class Dependencies {
 public:
  Dependencies(EngineState& engine, bool waits, bool completions) noexcept;

  bool tracks_waits() const noexcept { return waits_; }
  bool tracks_completions() const noexcept { return completions_; }

  /// The calling item, if it is one, is about to wait for this work's run or, unless `run_only`, for its queueing and run.
  /// Under no lock: may report. `call` is a literal.
  void note_wait(Work& work, bool run_only, const char* call);
  /// The calling item is about to wait for all items of a queue.
  void note_wait(QueueState& queue, const char* call);
  /// Names the calling item in 30 bits, for a Completion that it completes; 0 when it is none, or not to be tracked.
  std::uint32_t completer();
  /// The calling item has waited for a Completion that this one completed.
  void note_completion(std::uint32_t completer);

  /// A queue goes away; its number and memory will be used again.
  void forget(const QueueState& queue);
  /// A work is queued that never was before: whatever is known of an older one at its address is of no account.
  void note_first_queueing(const Work& work) noexcept {
    if (has_objects_.load(std::memory_order_relaxed)) [[unlikely]]
      forget(work);
  }

 private:
  static constexpr std::size_t kMostNodes = 4096;
  static constexpr std::size_t kMostEdges = 4096;
  using NodeId = std::uint32_t;  // 22 bits; never 0

  struct Key {
    enum class Kind : std::uint8_t { kItem, kQueue, kObject };
    Kind kind = Kind::kItem;
    WorkFunction function{nullptr};     // kItem, kObject
    const QueueState* queue = nullptr;  // kItem, nullptr: any; kQueue
    const Work* work = nullptr;         // kObject; only compared
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const noexcept;
  };
  struct Edge {
    NodeId to = 0;
    bool run_only = false;
    const char* call = "";
    StackTrace stack = {};
  };
  struct Node {
    Key key = {};
    std::vector<Edge> out = {};
    bool unborn = false;  // kObject: it had never been queued when it was noted; its first queueing is still to come
  };
  struct Step;
  struct Found;

  Worker* waiter() const noexcept;
  Key item_of(const Worker& worker) const noexcept;
  void note(const Key& from, const Key& to, bool run_only, const char* call);
  NodeId node(const Key& key);  // D; 0 when there are too many
  void drop(NodeId id);         // D
  void note_unborn(const Work& work);
  void forget(const Work& work) noexcept;
  bool search(NodeId from, bool run_only, NodeId to, std::vector<Step>& steps) const;  // D
  Found describe(NodeId from, const Edge& closing, const std::vector<Step>& steps);    // D
  void report(Found found) const;

  EngineState& engine_;                        // C
  const bool waits_;                           // C
  const bool completions_;                     // C
  const std::uint32_t tag_;                    // C: tells the engines of a process apart
  platform::Atomic<bool> has_objects_{false};  // A

  platform::Mutex lock_;
  std::unordered_map<Key, NodeId, KeyHash> ids_;  // D
  std::unordered_map<NodeId, Node> nodes_;        // D
  NodeId last_id_ = 0;                            // D
  std::size_t nr_edges_ = 0;                      // D
  std::unordered_set<std::size_t> reported_;      // D: who took part, so that each cycle is reported once
  bool full_ = false;                             // D
};

}  // namespace upci::inline UPCI_VARIANT
