// SPDX-License-Identifier: Apache-2.0
#include "workqueue/dependencies.h"

#include <algorithm>
#include <mutex>

#include "base/log.h"
#include "workqueue/engine_state.h"
#include "workqueue/untracked_waits.h"

namespace upci::inline UPCI_VARIANT {

namespace {

// 8 bits of each item's name in a Completion. Wraps; two live engines with the same number would have to complete each
// other's Completions to be mistaken.
std::uint32_t next_tag() noexcept {
  static platform::Atomic<std::uint32_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) % 255 + 1;
}

constexpr std::uint32_t kTagBits = 8;
constexpr std::uint32_t kMostIds = 1U << 22;

bool runs_one_at_a_time(const QueueState* queue) noexcept {
  return queue != nullptr && (queue->is_ordered() || queue->max_active.load(std::memory_order_relaxed) == 1);
}

}  // namespace

std::size_t Dependencies::KeyHash::operator()(const Key& key) const noexcept {
  const auto mix = [](std::size_t seed, std::uintptr_t value) { return (seed ^ value) * 0x9e3779b97f4a7c15U; };
  std::size_t hash = mix(static_cast<std::size_t>(key.kind), key.function.address());
  hash = mix(hash, reinterpret_cast<std::uintptr_t>(key.queue));
  hash = mix(hash, reinterpret_cast<std::uintptr_t>(key.work));
  return hash ^ (hash >> 29);
}

Dependencies::Dependencies(EngineState& engine, bool waits, bool completions) noexcept
    : engine_(engine), waits_(waits), completions_(completions), tag_(next_tag()) {}

/// The calling worker, when it runs an item of this engine whose waits count.
Worker* Dependencies::waiter() const noexcept {
  Worker* worker = Worker::current();
  if (worker == nullptr || worker->current_queue() == nullptr || UntrackedWaits::active()) return nullptr;
  return &worker->pool().engine() == &engine_ ? worker : nullptr;
}

Dependencies::Key Dependencies::item_of(const Worker& worker) const noexcept {
  return {.kind = Key::Kind::kItem, .function = worker.current_function(), .queue = worker.current_queue()};
}

void Dependencies::note_wait(Work& work, bool run_only, const char* call) {
  if (!waits_) return;
  const Worker* self = waiter();
  const WorkFunction function = WorkAccess::function(work);
  if (self == nullptr || (self->current_work() == &work && self->current_function() == function)) return;
  // On which queue, if it is on one.
  const QueueState* queue = nullptr;
  const std::uint64_t data = WorkAccess::data(work).load(std::memory_order_acquire);
  if (WorkerPool* pool = engine_.pool(WorkAccess::pool_of(data))) {
    std::lock_guard guard(pool->lock());
    const Worker* worker = pool->find_worker_executing(work);
    const PoolWorkqueue* pwq = pool->pwq_of(WorkAccess::workqueue_of(data));
    if (pwq == nullptr && worker != nullptr) pwq = WorkerPool::current_pwq(*worker);
    if (pwq != nullptr) queue = pwq->queue;
  }
  const Key from = item_of(*self);
  const bool same_turn = !run_only && queue == from.queue && runs_one_at_a_time(queue);
  if (function == from.function && !same_turn) {
    has_objects_.store(true, std::memory_order_relaxed);
    note({.kind = Key::Kind::kObject, .function = function, .work = self->current_work()},
         {.kind = Key::Kind::kObject, .function = function, .work = &work}, run_only, call);
    if (WorkAccess::pool_of(data) < 0) note_unborn(work);
  } else {
    note(from, {.kind = Key::Kind::kItem, .function = function, .queue = queue}, run_only, call);
  }
}

void Dependencies::note_wait(QueueState& queue, const char* call) {
  if (!waits_) return;
  if (const Worker* self = waiter()) note(item_of(*self), {.kind = Key::Kind::kQueue, .queue = &queue}, false, call);
}

std::uint32_t Dependencies::completer() {
  const Worker* self = waiter();
  if (!completions_ || self == nullptr) return 0;
  std::lock_guard guard(lock_);
  const NodeId id = node(item_of(*self));
  return id == 0 ? 0 : id << kTagBits | tag_;
}

void Dependencies::note_completion(std::uint32_t completer) {
  const Worker* self = waiter();
  if (!completions_ || self == nullptr || completer == 0 || (completer & ((1U << kTagBits) - 1)) != tag_) return;
  Key to;
  {
    std::lock_guard guard(lock_);
    const auto found = nodes_.find(completer >> kTagBits);
    if (found == nodes_.end()) return;  // its queue is gone
    to = found->second.key;
  }
  // Which of several objects completed it is not known: nothing is said of equal functions.
  if (to.function == self->current_function()) return;
  note(item_of(*self), to, false, "Completion::wait");
}

Dependencies::NodeId Dependencies::node(const Key& key) {
  if (const auto found = ids_.find(key); found != ids_.end()) return found->second;
  if (nodes_.size() == kMostNodes) {
    if (!std::exchange(full_, true))
      log::warn("workqueue: more than {} kinds of items wait; no more are kept", kMostNodes);
    return 0;
  }
  do last_id_ = (last_id_ + 1) % kMostIds;
  while (last_id_ == 0 || nodes_.contains(last_id_));
  ids_.emplace(key, last_id_);
  nodes_.emplace(last_id_, Node{.key = key});
  return last_id_;
}

void Dependencies::drop(NodeId id) {
  const auto gone = nodes_.find(id);
  nr_edges_ -= gone->second.out.size();
  ids_.erase(gone->second.key);
  nodes_.erase(gone);
  for (auto& [other, node] : nodes_) {
    nr_edges_ -= std::erase_if(node.out, [id](const Edge& edge) { return edge.to == id; });
  }
}

void Dependencies::forget(const QueueState& queue) {
  std::lock_guard guard(lock_);
  std::vector<NodeId> gone;
  for (const auto& [id, node] : nodes_) {
    if (node.key.queue == &queue) gone.push_back(id);
  }
  for (const NodeId id : gone) drop(id);
}

void Dependencies::note_unborn(const Work& work) {
  std::lock_guard guard(lock_);
  const auto found = ids_.find({.kind = Key::Kind::kObject, .function = WorkAccess::function(work), .work = &work});
  if (found != ids_.end()) nodes_.at(found->second).unborn = true;
}

void Dependencies::forget(const Work& work) noexcept {
  std::lock_guard guard(lock_);
  const Key key{.kind = Key::Kind::kObject, .function = WorkAccess::function(work), .work = &work};
  const auto found = ids_.find(key);
  if (found == ids_.end()) return;
  Node& node = nodes_.at(found->second);
  if (!std::exchange(node.unborn, false)) drop(found->second);
}

}  // namespace upci::inline UPCI_VARIANT
