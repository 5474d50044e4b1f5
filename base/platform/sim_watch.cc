// SPDX-License-Identifier: Apache-2.0
// SwitchWatch and ThreadProbe of the simulation. A watch keeps what the kernel's ring would hold, by the same rules.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/platform.h"
#include "base/platform/sim_scheduler.h"

namespace upci::inline UPCI_VARIANT::platform {

using sim::detail::active;
using sim::detail::Fiber;
using sim::detail::point;
using sim::detail::QueueState;
using sim::detail::Scheduler;
using sim::detail::WaitKind;
using sim::detail::WatchState;

namespace sim::detail {

void WatchStateDeleter::operator()(WatchState* state) const noexcept {
  if (active != nullptr && active->run_number() == state->run) active->find(state->fiber)->watch = nullptr;
  for (QueueState* queue : queues()) queue->forget(*state);
  delete state;
}

void QueueState::forget(const WatchState& watch) noexcept {
  const auto is_it = [&watch](const Source& source) { return source.watch == &watch; };
  std::erase_if(ready, is_it);
  std::erase_if(watches, is_it);
}

void Scheduler::record_switch(WatchState& watch, SwitchState what) noexcept {
  if (what == SwitchState::kRunning) ++watch.ins;
  platform::detail::SwitchRecords& records = watch.records;
  const std::uint32_t size =
      platform::detail::kSwitchRecord + (watch.dropped ? platform::detail::kLostRecord : std::uint32_t{0});
  if (!watch.window.armed || records.used + size > platform::detail::kSwitchRoom) {
    watch.dropped = true;
    return;
  }
  watch.dropped = false;
  records.used += size;
  records.any = true;
  records.last = what;
  if (what == SwitchState::kRunning) ++records.ins;
  for (QueueState* queue : queues()) {
    for (const QueueState::Source& source : queue->watches) {
      if (source.watch != &watch) continue;
      if (std::none_of(queue->ready.begin(), queue->ready.end(),
                       [&watch](const QueueState::Source& ready) { return ready.watch == &watch; })) {
        queue->ready.push_back(source);
      }
      wake(WaitKind::kQueue, queue, 1);
    }
  }
}

void Scheduler::switched_out(Fiber& fiber, SwitchState why) noexcept {
  if (fiber.watch == nullptr || fiber.switched_out || fiber.waits_for == WaitKind::kCompute) return;
  // Not every preemption point is a switch: the fibers stand for threads of several CPUs.
  if (why == SwitchState::kPreempted && (!fiber.watch->window.armed || pick(exploring() ? 2 : 8) != 0)) return;
  fiber.switched_out = true;
  record_switch(*fiber.watch, why);
}

void Scheduler::switched_in(Fiber& fiber) noexcept {
  if (!fiber.switched_out) return;
  fiber.switched_out = false;
  if (fiber.watch != nullptr) record_switch(*fiber.watch, SwitchState::kRunning);
}

void Scheduler::consume(Nanoseconds span) noexcept {
  if (span <= Nanoseconds::zero()) return;
  Fiber& fiber = *current_;
  fiber.computing_since = now_;
  block(WaitKind::kCompute, nullptr, now_ + span);
}

}  // namespace sim::detail

// SwitchWatch

Result<SwitchWatch> SwitchWatch::create() {
  if (active == nullptr) return fail(Errc::kState, "cannot watch a thread outside of a simulated run");
  point();
  if (active->refuses_watches) {
    return fail_errno("cannot watch a thread's context switches (perf_event_open)",
                      "set kernel.perf_event_paranoid to 2 or less", EACCES);
  }
  Fiber& fiber = active->current();
  if (fiber.watch != nullptr) return fail(Errc::kState, "the thread is watched already");
  Pointer state(new WatchState{.fiber = fiber.id, .run = active->run_number()});
  fiber.watch = state.get();
  return SwitchWatch(std::move(state));
}

void SwitchWatch::arm() noexcept {
  point();
  state_->window = {.ins = state_->ins, .armed = true, .state = State::kRunning};
  state_->records = {};
  point();
}

void SwitchWatch::disarm() noexcept {
  point();
  state_->window = {.ins = state_->ins, .armed = false, .state = State::kRunning};
  state_->records = {};
  point();
}

SwitchWatch::State SwitchWatch::state() const noexcept {
  point();
  return detail::judge(state_->window, state_->records, state_->ins);
}

SwitchWatch::State SwitchWatch::rearm(const ThreadProbe& probe, int cpu) noexcept {
  point();
  WatchState& watch = *state_;
  if (watch.window.armed || watch.window.lapsed()) {
    State before = detail::judge(watch.window, watch.records, watch.ins);
    if (before == State::kUnknown && this_thread::current_cpu() == cpu && !probe.asleep()) before = State::kPreempted;
    watch.window = {.ins = watch.ins, .armed = before != State::kPreempted, .state = before};
    watch.records = {};
  }
  const State now = state();
  if (now != State::kUnknown) return now;
  return probe.asleep() ? State::kBlocked : State::kRunning;
}

bool SwitchWatch::lapsed() const noexcept {
  point();
  return state_->window.lapsed();
}

Result<void> SwitchWatch::self_test() {
  if (active != nullptr && active->refuses_watches) {
    return fail_errno("cannot watch a thread's context switches (perf_event_open)",
                      "set kernel.perf_event_paranoid to 2 or less", EACCES);
  }
  return {};
}

Result<void> EventQueue::add(const SwitchWatch& watch, std::uint64_t token) {
  point();
  if (token > kMaxToken) return fail(Errc::kInvalid, "the token is one of the event queue's own");
  state_->forget(*watch.state_);
  state_->watches.push_back({.token = token, .watch = watch.state_.get()});
  return {};
}

Result<void> EventQueue::remove(const SwitchWatch& watch) {
  point();
  state_->forget(*watch.state_);
  return {};
}

// ThreadProbe

namespace {

Fiber* living(ThreadId thread, std::uint64_t run) noexcept {
  if (active == nullptr || active->run_number() != run) return nullptr;
  Fiber* const fiber = active->find(thread);
  return fiber == nullptr || fiber->finished ? nullptr : fiber;
}

}  // namespace

Result<ThreadProbe> ThreadProbe::open(ThreadId thread) {
  const std::uint64_t run = active != nullptr ? active->run_number() : 0;
  if (living(thread, run) == nullptr) {
    return fail_errno("cannot look at the thread " + std::to_string(thread) + " in /proc/self/task", "it has ended",
                      ENOENT);
  }
  return ThreadProbe(thread, run);
}

Nanoseconds ThreadProbe::cpu_time() const noexcept {
  point();
  const Fiber* const fiber = living(thread_, run_);
  if (fiber == nullptr) return {};
  if (fiber->waits_for != WaitKind::kCompute) return fiber->cpu_time;
  return fiber->cpu_time + (std::min(active->now(), fiber->until) - fiber->computing_since);
}

bool ThreadProbe::asleep() const noexcept {
  point();
  const Fiber* const fiber = living(thread_, run_);
  return fiber != nullptr && fiber->waits_for != WaitKind::kNone && fiber->waits_for != WaitKind::kCompute;
}

std::string ThreadProbe::where() const {
  const Fiber* const fiber = living(thread_, run_);
  if (fiber == nullptr) return {};
  switch (fiber->waits_for) {
    case WaitKind::kSleep: return "clock_nanosleep";
    case WaitKind::kQueue: return "ep_poll";
    case WaitKind::kWord:
    case WaitKind::kMutex:
    case WaitKind::kJoin: return "futex_wait";
    case WaitKind::kNone:
    case WaitKind::kCompute: break;
  }
  return {};
}

namespace sim {

void consume(Nanoseconds span) noexcept {
  if (active != nullptr) active->consume(span);
}

void refuse_switch_watch(bool refuse) noexcept {
  if (active != nullptr) active->refuses_watches = refuse;
}

}  // namespace sim

}  // namespace upci::inline UPCI_VARIANT::platform
