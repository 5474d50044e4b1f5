// SPDX-License-Identifier: Apache-2.0
#include "base/platform/sim_scheduler.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <utility>

namespace upci::inline UPCI_VARIANT::platform::sim::detail {

Scheduler* active = nullptr;

namespace {

constexpr Nanoseconds kSpinRound{1000};

std::uint64_t next_run_number() noexcept {
  static std::uint64_t runs = 0;
  return ++runs;
}

// After a failed run its fibers stay where they are; this keeps what they own reachable.
std::vector<std::unique_ptr<Fiber>>& abandoned() {
  static auto* const fibers = new std::vector<std::unique_ptr<Fiber>>;
  return *fibers;
}

}  // namespace

std::vector<QueueState*>& queues() {
  static auto* const all = new std::vector<QueueState*>;
  return *all;
}

void step_slow() noexcept { active->step(); }
bool spurious_slow() noexcept { return active->spurious(); }

Scheduler::Scheduler(const Options& options)
    : options_(options),
      run_number_(next_run_number()),
      random_(options.seed),
      now_(kStart),
      cpu_online_(static_cast<std::size_t>(std::max(1, options.cpus)), true) {
  if (options.chooser != nullptr) {
    policy_ = Policy::kExplore;  // attention_at_ stays 0: each step is looked at
    return;
  }
  switch (random_.below(4)) {
    case 0: policy_ = Policy::kPriorities; break;
    case 1: policy_ = Policy::kBursts; break;
    default: preempt_below_ = 0x8000'0000U >> random_.below(5);  // 1/2 to 1/32
  }
  change_horizon_ = std::uint64_t{16} << random_.below(9);  // 16 to 4096 steps
  spurious_ = options.spurious && random_.below(4) == 0;
  plan_change();
}

Scheduler::~Scheduler() {
  if (outcome_.ok()) return;
  for (std::unique_ptr<Fiber>& fiber : fibers_) {
    if (fiber->finished) continue;
    fiber->stack.abandon();
    abandoned().push_back(std::move(fiber));
  }
}

Outcome Scheduler::run(std::function<void()> main_body) {
  Fiber& main = spawn({.name = "main", .cpu = -1}, std::move(main_body));
  current_ = &main;
  main.started = true;
  active = this;
  FiberContext::switch_to(outside_, main.context);
  active = nullptr;
  if (ended_ != nullptr) ended_->stack.give_back();
  if (!outcome_.ok() && options_.stacks) outcome_.text += stacks();
  outcome_.steps = steps_;
  outcome_.trace = trace_;
  outcome_.elapsed = now_ - kStart;
  return outcome_;
}

Fiber& Scheduler::spawn(Thread::Options options, std::function<void()> body) {
  auto made = std::make_unique<Fiber>();
  Fiber& fiber = *made;
  fiber.id = static_cast<int>(fibers_.size()) + 1;
  fiber.name = std::move(options.name);
  fiber.body = std::move(body);
  fiber.pinned = options.cpu;
  fiber.cpu = options.cpu;
  if (options.cpu < 0) {
    const std::size_t cpus = cpu_online_.size();
    fiber.cpu = static_cast<int>(exploring() ? fibers_.size() % cpus : random_.below(cpus));
  }
  fiber.priority = (random_.next() >> 1U) | (std::uint64_t{1} << 63U);
  fiber.stack = FiberStack::take();
  fiber.context.prepare(fiber.stack, &Scheduler::fiber_entry);
  fibers_.push_back(std::move(made));
  ++alive_;
  insert(runnable_, fiber);
  if (by_priority()) attention_at_ = 0;
  return fiber;
}

void Scheduler::fiber_entry() {
  FiberContext::arrived();
  Scheduler& self = *active;
  if (self.ended_ != nullptr) std::exchange(self.ended_, nullptr)->stack.give_back();
  Fiber& fiber = *self.current_;
  try {
    fiber.body();
    fiber.body = nullptr;  // what it captured ends in its own fiber, as in a thread
  } catch (const std::exception& error) {
    self.fail(End::kException, "an exception left the body of fiber '" + fiber.name + "': " + error.what());
  } catch (...) { self.fail(End::kException, "an exception left the body of fiber '" + fiber.name + "'"); }
  self.end_current();
}

void Scheduler::end_current() noexcept {
  Fiber& fiber = *current_;
  fiber.finished = true;
  erase(runnable_, fiber);
  --alive_;
  wake(WaitKind::kJoin, &fiber, 1);
  ended_ = &fiber;
  if (alive_ == 0) {
    FiberContext::switch_to(fiber.context, outside_, true);
  } else {
    Fiber* const next = next_to_run();
    trace_ = (trace_ ^ static_cast<std::uint64_t>(next->id)) * 0x100000001b3U + steps_;
    current_ = next;
    next->started = true;
    FiberContext::switch_to(fiber.context, next->context, true);
  }
  std::abort();  // nobody switches back to a fiber that has ended
}

void Scheduler::switch_to(Fiber* next) noexcept {
  if (next == current_) return;
  trace_ = (trace_ ^ static_cast<std::uint64_t>(next->id)) * 0x100000001b3U + steps_;
  Fiber& from = *current_;
  switched_out(from, SwitchState::kPreempted);
  current_ = next;
  next->started = true;
  go(from, next->context);
  switched_in(from);
  if (ended_ != nullptr) std::exchange(ended_, nullptr)->stack.give_back();
}

void Scheduler::go(Fiber& from, FiberContext& to) noexcept {
  FiberContext::switch_to(from.context, to);
  // Back again. A visitor may have come in between, only to look at this stack.
  while (from.visit != nullptr) {
    std::exchange(from.visit, nullptr)(from.visit_argument);
    FiberContext::switch_to(from.context, *from.visitor);
  }
}

void Scheduler::visit_from(FiberContext& visitor, Fiber& fiber, void (*function)(void*), void* argument) noexcept {
  fiber.visit = function;
  fiber.visit_argument = argument;
  fiber.visitor = &visitor;
  Scheduler* const self = std::exchange(active, nullptr);  // no scheduling points on a borrowed stack
  FiberContext::switch_to(visitor, fiber.context);
  active = self;
}

bool Scheduler::visit(int id, void (*function)(void*), void* argument) noexcept {
  Fiber* const fiber = find(id);
  if (fiber == nullptr || fiber->finished) return false;
  if (fiber == current_) {
    function(argument);
    return true;
  }
  if (fiber->started) visit_from(current_->context, *fiber, function, argument);
  return true;
}

// Choosing

void Scheduler::plan_change() noexcept {
  if (policy_ == Policy::kPriorities) next_change_ = steps_ + 1 + random_.below(change_horizon_);
  if (policy_ == Policy::kBursts) next_change_ = steps_ + 1 + random_.below(std::uint64_t{1} << random_.below(11));
  attention_at_ = std::min(next_change_, options_.max_steps);
}

void Scheduler::attend() noexcept {
  if (steps_ >= options_.max_steps) {
    fail(End::kStepLimit, "not finished after " + std::to_string(steps_) + " steps");
  }
  if (exploring()) return explore_step();
  attention_at_ = std::min(next_change_, options_.max_steps);
  if (steps_ >= next_change_) {
    if (by_priority()) current_->priority = --lowest_priority_;
    plan_change();
    if (!by_priority()) preempt();
  }
  if (by_priority()) switch_to(choose(true));
}

void Scheduler::preempt() noexcept {
  if (runnable_.size() < 2) return;
  switch_to(runnable_[random_.below(runnable_.size())]);
}

Fiber* Scheduler::choose(bool spinners_too) noexcept {
  scratch_.clear();
  Fiber* best = nullptr;
  for (Fiber* fiber : runnable_) {
    if (fiber->spinning && !spinners_too) continue;
    if (by_priority()) {
      if (best == nullptr || fiber->priority > best->priority) best = fiber;
    } else {
      scratch_.push_back(fiber);
    }
  }
  if (by_priority()) return best;
  return scratch_.empty() ? nullptr : pick(scratch_);
}

Fiber* Scheduler::next_to_run() noexcept {
  for (;;) {
    if (!runnable_.empty()) return choose(true);
    poll_all();
    if (!runnable_.empty()) continue;
    if (!advance_to_earliest()) fail(End::kDeadlock, "deadlock: no fiber can run, and none waits for a time");
  }
}

void Scheduler::yield() noexcept {
  ++steps_;
  if (steps_ >= options_.max_steps) attend();
  current_->spinning = true;
  if (by_priority()) current_->priority = --lowest_priority_;
  Fiber* next = choose(false);
  if (next == nullptr) {
    // All that can run only wait for something to change: let time pass.
    poll_all();
    now_ += kSpinRound;
    expire();
    for (Fiber* fiber : runnable_) {
      fiber->spinning = false;
      fiber->cpu_time += kSpinRound;
    }
    next = next_spinner();
  }
  switch_to(next);
}

// Waiting and waking

void Scheduler::insert(std::vector<Fiber*>& list, Fiber& fiber) {
  fiber.place = list.size();
  list.push_back(&fiber);
}

void Scheduler::erase(std::vector<Fiber*>& list, Fiber& fiber) noexcept {
  list[fiber.place] = list.back();
  list[fiber.place]->place = fiber.place;
  list.pop_back();
}

bool Scheduler::block(WaitKind kind, const void* object, TimePoint until) noexcept {
  ++steps_;
  if (steps_ >= options_.max_steps) attend();
  Fiber& fiber = *current_;
  fiber.waits_for = kind;
  fiber.object = object;
  fiber.until = until;
  fiber.spinning = false;
  switched_out(fiber, SwitchState::kBlocked);
  erase(runnable_, fiber);
  insert(blocked_, fiber);
  switch_to(next_to_run());
  switched_in(fiber);
  return !fiber.timed_out;
}

void Scheduler::make_runnable(Fiber& fiber, bool timed_out) noexcept {
  erase(blocked_, fiber);
  insert(runnable_, fiber);
  if (fiber.waits_for == WaitKind::kCompute) fiber.cpu_time += now_ - fiber.computing_since;
  fiber.waits_for = WaitKind::kNone;
  fiber.object = nullptr;
  fiber.timed_out = timed_out;
  if (by_priority()) attention_at_ = 0;  // it may be more important than the current one
}

void Scheduler::wake(WaitKind kind, const void* object, int count) noexcept {
  for (; count > 0; --count) {
    scratch_.clear();
    for (Fiber* fiber : blocked_) {
      if (fiber->waits_for == kind && fiber->object == object) scratch_.push_back(fiber);
    }
    if (scratch_.empty()) return;
    make_runnable(*pick(scratch_), false);
  }
}

// Time

bool Scheduler::advance_to_earliest() noexcept {
  TimePoint earliest = kNever;
  for (const Fiber* fiber : blocked_) {
    earliest = std::min(earliest, fiber->until);
    if (fiber->waits_for != WaitKind::kQueue) continue;
    const auto* queue = static_cast<const QueueState*>(fiber->object);
    if (!queue->alarm_told) earliest = std::min(earliest, queue->alarm);
  }
  if (earliest == kNever) return false;
  now_ = std::max(now_, earliest);
  expire();
  return true;
}

void Scheduler::expire() noexcept {
  // Alarms first: making fibers runnable below changes who waits for a queue.
  for (QueueState* queue : queues()) wake_for_alarm(*queue);
  for (std::size_t i = 0; i < blocked_.size();) {
    Fiber& fiber = *blocked_[i];
    if (fiber.until <= now_) {
      make_runnable(fiber, true);  // puts another one at this place
    } else {
      ++i;
    }
  }
}

bool Scheduler::anyone_waits(const QueueState& queue) const noexcept {
  return std::any_of(blocked_.begin(), blocked_.end(), [&queue](const Fiber* fiber) {
    return fiber->waits_for == WaitKind::kQueue && fiber->object == &queue;
  });
}

void Scheduler::wake_for_alarm(QueueState& queue) noexcept {
  if (queue.alarm_told || queue.alarm > now_ || !anyone_waits(queue)) return;
  queue.alarm_told = true;
  wake(WaitKind::kQueue, &queue, 1);
}

bool Scheduler::poll(QueueState& queue) noexcept {
  if (queue.sources.empty()) return false;
  bool any = false;
  epoll_event buffer[16];
  int count = 0;
  do {
    count = ::epoll_wait(queue.epoll.get(), buffer, 16, 0);
    for (int i = 0; i < count; ++i) {
      const int fd = buffer[i].data.fd;
      const auto same = [fd](const QueueState::Source& source) { return source.fd == fd; };
      const auto source = std::find_if(queue.sources.begin(), queue.sources.end(), same);
      if (source == queue.sources.end()) continue;
      if (std::none_of(queue.ready.begin(), queue.ready.end(), same)) queue.ready.push_back(*source);
      wake(WaitKind::kQueue, &queue, 1);
      any = true;
    }
  } while (count == 16);
  return any;
}

void Scheduler::poll_all() noexcept {
  for (QueueState* queue : queues()) {
    if (!queue->sources.empty() && anyone_waits(*queue)) poll(*queue);
  }
}

// The end

void Scheduler::fail(End end, std::string text) noexcept {
  outcome_.end = end;
  outcome_.text = std::move(text) + where() + describe();
  active = nullptr;
  go(*current_, outside_);
  std::abort();  // nobody goes on in a run that has failed
}

Fiber* Scheduler::find(int id) noexcept {
  if (id < 1 || static_cast<std::size_t>(id) > fibers_.size()) return nullptr;
  return fibers_[static_cast<std::size_t>(id) - 1].get();
}

}  // namespace upci::inline UPCI_VARIANT::platform::sim::detail
