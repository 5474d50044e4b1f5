// SPDX-License-Identifier: Apache-2.0
#include "workqueue/audit.h"

#include <fmt/format.h>

#include <algorithm>

#include "workqueue/engine_state.h"
#include "workqueue/worker_pool.h"

namespace upci::inline UPCI_VARIANT {

namespace {

bool is_armed(DelayedWork& work) noexcept {
  const auto& timer_pool = WorkAccess::timer_pool(work);
  WorkerPool* pool = timer_pool.load(std::memory_order_acquire);
  if (pool == nullptr) return false;
  std::lock_guard guard(pool->lock());
  return timer_pool.load(std::memory_order_relaxed) == pool && WorkAccess::timer(work).armed;
}

}  // namespace

std::string_view to_string(Requester::Kind kind) noexcept {
  switch (kind) {
    case Requester::Kind::kEventSource: return "event source";
    case Requester::Kind::kThread: return "thread";
    case Requester::Kind::kItem: return "item";
    case Requester::Kind::kGracePeriod: return "grace period";
    case Requester::Kind::kTimer: return "timer";
    case Requester::Kind::kItself: return "itself";
  }
  return "unknown";
}

std::string to_text(const std::vector<Requester>& requesters) {
  if (requesters.empty()) return "nothing";
  const auto advice = [](Requester::Kind kind) -> std::string_view {
    switch (kind) {
      case Requester::Kind::kEventSource: return "mask the interrupt, then remove_event_source";
      case Requester::Kind::kThread: return "end it, or take the work from it";
      case Requester::Kind::kItem: return "cancel_work_sync that item";
      case Requester::Kind::kGracePeriod: return "flush_rcu_work";
      case Requester::Kind::kTimer: return "cancel_delayed_work_sync";
      case Requester::Kind::kItself: return "cancel_work_sync: it keeps the work from queueing itself";
    }
    return "";
  };
  std::string text;
  int place = 0;
  for (const Requester& one : requesters) {
    text += fmt::format("{}{}. {}{}{}{}, {} time(s): {}", place == 0 ? "" : "\n", place + 1, to_string(one.kind),
                        one.name.empty() ? "" : " ", one.name, one.armed ? " (armed now)" : "", one.times,
                        advice(one.kind));
    place++;
  }
  return text;
}

void QueueingHistory::note(EngineState& engine, const Work& work, std::optional<Requester::Kind> then) {
  Seen now;
  const Worker* worker = Worker::current();
  const WorkFunction& function = WorkAccess::function(work);
  if (worker != nullptr && worker->serving().fd >= 0) {
    now.kind = Requester::Kind::kEventSource;
    now.number = worker->serving().fd;
    now.top_half = worker->serving().function;
  } else if (worker != nullptr && engine.rcu().is_poll(worker->current_work())) {
    now.kind = Requester::Kind::kGracePeriod;
  } else if (worker != nullptr && worker->current_work() != nullptr) {
    const bool itself = worker->current_work() == &work && worker->current_function() == function;
    now.kind = itself ? Requester::Kind::kItself : Requester::Kind::kItem;
    now.function = worker->current_function();
    now.queue = worker->current_queue();
    if (now.queue != nullptr) now.queue_name = now.queue->name();
  } else if (worker != nullptr && &worker->pool().engine() == &engine) {
    now.kind = Requester::Kind::kTimer;  // a worker that runs nothing: one of its timers has expired
  } else {
    now.number = platform::this_thread::id();
  }
  now.stack = capture_stack(2);
  std::optional<Seen> later;
  if (then) later = Seen{.kind = *then, .stack = now.stack};

  std::lock_guard guard(lock_);
  if (works_.size() >= kMostWorks && !works_.contains(&work)) works_.clear();
  History& history = works_[&work];
  if (!(history.function == function)) history = {.function = function};
  const auto add = [&history](Seen&& one) {
    const auto known = std::ranges::find_if(history.seen, [&one](const Seen& other) {
      return other.kind == one.kind && other.function == one.function && other.queue == one.queue &&
             other.number == one.number && other.top_half == one.top_half;
    });
    if (known != history.seen.end()) {
      known->times++;
      known->stack = one.stack;
    } else if (history.seen.size() < kMostEach) {
      one.times = 1;
      history.seen.push_back(std::move(one));
    }
  };
  add(std::move(now));
  if (later) add(std::move(*later));
}

std::vector<Requester> QueueingHistory::find(const Work& work) const {
  std::vector<Seen> seen;
  {
    std::lock_guard guard(lock_);
    const auto found = works_.find(&work);
    if (found == works_.end() || !(found->second.function == WorkAccess::function(work))) return {};
    seen = found->second.seen;
  }
  std::vector<Requester> all;
  for (const Seen& one : seen) {
    Requester requester{.kind = one.kind, .times = one.times, .stack = one.stack};
    switch (one.kind) {
      case Requester::Kind::kEventSource:
        requester.name = fmt::format("fd {} ({})", one.number, name_function_at(one.top_half));
        break;
      case Requester::Kind::kThread: requester.name = fmt::format("{}", one.number); break;
      case Requester::Kind::kItem:
        requester.name = fmt::format("{} of '{}'", name_function(one.function), one.queue_name);
        break;
      case Requester::Kind::kGracePeriod:
      case Requester::Kind::kTimer: {
        const std::uint64_t data = WorkAccess::data(const_cast<Work&>(work)).load(std::memory_order_relaxed);
        requester.armed = (data & WorkAccess::kPending) != 0 && (WorkAccess::place(work) & WorkAccess::kPlaceMask) == 0;
        break;
      }
      case Requester::Kind::kItself: break;
    }
    all.insert(std::ranges::upper_bound(all, one.kind, {}, &Requester::kind), std::move(requester));
  }
  return all;
}

std::vector<Requester> Engine::what_can_queue(const Work& work) const { return state_->history().find(work); }

std::vector<Requester> Engine::what_can_queue(const DelayedWork& work) const {
  std::vector<Requester> all = state_->history().find(work.work());
  const bool armed = is_armed(const_cast<DelayedWork&>(work));
  const auto timer = std::ranges::find(all, Requester::Kind::kTimer, &Requester::kind);
  if (timer != all.end()) {
    timer->armed = armed;
  } else if (armed) {  // from before the engine kept who queues what, or it does not
    const auto place = std::ranges::find(all, Requester::Kind::kItself, &Requester::kind);
    all.insert(place, {.kind = Requester::Kind::kTimer, .times = 1, .armed = true});
  }
  return all;
}

}  // namespace upci::inline UPCI_VARIANT
