// SPDX-License-Identifier: Apache-2.0
// The names of the platform seam, on top of the simulation's scheduler.
#include "base/platform.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/platform/sim_scheduler.h"

namespace upci::inline UPCI_VARIANT::platform {

using sim::detail::active;
using sim::detail::point;
using sim::detail::QueueState;
using sim::detail::Scheduler;
using sim::detail::WaitKind;

namespace {

// Who calls from outside of any run: a fixture that sets up or tears down, one at a time.
constexpr int kOutside = -1;

int self_id() noexcept { return active != nullptr ? active->current().id : kOutside; }

}  // namespace

Clock::time_point Clock::now() noexcept {
  if (active == nullptr) return sim::detail::kStart;
  point();
  return active->now();
}

void relax() noexcept {
  if (active != nullptr) active->yield();
}

// Mutex

Mutex::~Mutex() {
  if (owner_ != 0 && active != nullptr) {
    sim::fail_run("a mutex was destroyed while fiber " + std::to_string(owner_) + " held it");
  }
}

void Mutex::lock() noexcept {
  point();
  const int self = self_id();
  while (owner_ != 0) {
    if (owner_ == self || active == nullptr) {
      sim::fail_run("fiber " + std::to_string(self) + " locks a mutex that fiber " + std::to_string(owner_) + " holds");
    }
    active->block(WaitKind::kMutex, this, kNever);
  }
  owner_ = self;
}

bool Mutex::try_lock() noexcept {
  point();
  if (owner_ != 0) return false;
  owner_ = self_id();
  return true;
}

void Mutex::unlock() noexcept {
  if (owner_ != self_id()) {
    sim::fail_run("fiber " + std::to_string(self_id()) + " unlocks a mutex that " +
                  (owner_ == 0 ? std::string("nobody") : "fiber " + std::to_string(owner_)) + " holds");
  }
  point();
  owner_ = 0;
  if (active == nullptr) return;
  active->wake(WaitKind::kMutex, this, 1);
  point();
}

// Words

bool wait_word(const Atomic<std::uint32_t>& word, std::uint32_t expected, TimePoint until) noexcept {
  point();
  if (word.peek() != expected) return true;
  if (active == nullptr) sim::fail_run("a wait for a word outside of a run would never end");
  if (sim::detail::spurious()) return true;
  if (until <= active->now()) return false;
  return active->block(WaitKind::kWord, &word, until);
}

void wake_word(const Atomic<std::uint32_t>* word, int count) noexcept {
  point();
  if (active == nullptr || sim::detail::take_one(active->lost_wakeups)) return;
  active->wake(WaitKind::kWord, word, count);
  point();
}

// EventQueue

namespace sim::detail {
void QueueStateDeleter::operator()(QueueState* state) const noexcept {
  std::erase(queues(), state);
  delete state;
}
}  // namespace sim::detail

Result<EventQueue> EventQueue::create() {
  State state(new QueueState);
  sim::detail::queues().push_back(state.get());
  return EventQueue(std::move(state));
}

Result<void> EventQueue::add(int fd, std::uint64_t token) {
  point();
  QueueState& queue = *state_;
  if (token > kMaxToken) return fail(Errc::kInvalid, "the token is one of the event queue's own");
  if (!queue.epoll) {
    queue.epoll = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
    if (!queue.epoll) return fail_errno("cannot create an epoll descriptor");
  }
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.fd = fd;
  if (::epoll_ctl(queue.epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return fail_errno("cannot wait for descriptor " + std::to_string(fd));
  }
  // A descriptor that was closed without remove() has left the epoll descriptor by itself, and its number is used again.
  std::erase_if(queue.sources, [fd](const QueueState::Source& source) { return source.fd == fd; });
  std::erase_if(queue.ready, [fd](const QueueState::Source& source) { return source.fd == fd; });
  queue.sources.push_back({.fd = fd, .token = token});
  if (active != nullptr) active->poll(queue);
  return {};
}

Result<void> EventQueue::remove(int fd) {
  point();
  QueueState& queue = *state_;
  if (!queue.epoll || ::epoll_ctl(queue.epoll.get(), EPOLL_CTL_DEL, fd, nullptr) != 0) {
    return fail_errno("cannot stop to wait for descriptor " + std::to_string(fd), {}, queue.epoll ? 0 : ENOENT);
  }
  std::erase_if(queue.sources, [fd](const QueueState::Source& source) { return source.fd == fd; });
  std::erase_if(queue.ready, [fd](const QueueState::Source& source) { return source.fd == fd; });
  return {};
}

void EventQueue::notify() noexcept {
  point();
  if (active != nullptr && sim::detail::take_one(active->lost_wakeups)) return;
  QueueState& queue = *state_;
  queue.notified = true;
  if (active == nullptr) return;
  active->wake(WaitKind::kQueue, &queue, 1);
  point();
}

void EventQueue::set_alarm(TimePoint when) noexcept {
  point();
  QueueState& queue = *state_;
  const bool late = active != nullptr && when < kNever - active->alarm_delay;
  queue.alarm = late ? when + active->alarm_delay : when;
  queue.alarm_told = false;
  if (active != nullptr) active->wake_for_alarm(queue);
}

EventWait EventQueue::wait(std::span<Event> events, TimePoint until) noexcept {
  point();
  QueueState& queue = *state_;
  if (active == nullptr) sim::fail_run("a wait in an event queue outside of a run would never end");
  EventWait result;
  for (;;) {
    active->poll(queue);
    while (result.events < events.size() && !queue.ready.empty()) {
      events[result.events++].token = queue.ready.front().token;
      queue.ready.erase(queue.ready.begin());
    }
    result.notified = std::exchange(queue.notified, false);
    if (queue.alarm <= active->now()) {
      queue.alarm = kNever;
      result.alarm = true;
    }
    if (result.events != 0 || result.notified || result.alarm) {
      if (!queue.ready.empty()) active->wake(WaitKind::kQueue, &queue, 1);
      point();
      return result;
    }
    if (until <= active->now()) {
      result.timed_out = true;
      return result;
    }
    active->block(WaitKind::kQueue, &queue, until);
  }
}

void fd_signalled() noexcept {
  if (active == nullptr) return;
  active->poll_all();
  point();
}

// Thread

Result<Thread> Thread::create(Options options, std::function<void()> body) {
  const std::string name = options.name;
  if (active == nullptr)
    return fail(Errc::kState, "cannot create the thread '" + name + "' outside of a simulated run");
  point();
  if (active->refuses_threads || sim::detail::take_one(active->failing_threads))
    return fail_errno("cannot create the thread '" + name + "'", {}, EAGAIN);
  if (options.cpu >= 0 && !active->cpu_online(options.cpu)) {
    return fail_errno("cannot pin the thread '" + name + "' to CPU " + std::to_string(options.cpu),
                      "the CPU is offline or outside this process's cpuset", EINVAL);
  }
  options.name.resize(std::min<std::size_t>(options.name.size(), 15));
  Thread thread;
  thread.id_ = active->spawn(std::move(options), std::move(body)).id;
  thread.run_ = active->run_number();
  thread.joinable_ = true;
  point();
  return thread;
}

Thread::Thread(Thread&& other) noexcept
    : id_(std::exchange(other.id_, 0)),
      run_(std::exchange(other.run_, 0)),
      joinable_(std::exchange(other.joinable_, false)) {}

Thread& Thread::operator=(Thread&& other) noexcept {
  if (this == &other) return *this;
  if (joinable_ && active != nullptr) sim::fail_run("a thread was overwritten that was neither joined nor detached");
  id_ = std::exchange(other.id_, 0);
  run_ = std::exchange(other.run_, 0);
  joinable_ = std::exchange(other.joinable_, false);
  return *this;
}

Thread::~Thread() {
  if (joinable_ && active != nullptr) sim::fail_run("a thread was destroyed that was neither joined nor detached");
}

void Thread::join() {
  if (!joinable_) return;
  joinable_ = false;
  if (active == nullptr || active->run_number() != run_) return;
  point();
  sim::detail::Fiber* const fiber = active->find(id_);
  while (!fiber->finished) active->block(WaitKind::kJoin, fiber, kNever);
}

void Thread::detach() { joinable_ = false; }

// The calling fiber

namespace this_thread {

ThreadId id() noexcept { return active != nullptr ? active->current().id : 0; }
int current_cpu() noexcept { return active != nullptr ? active->current_cpu() : 0; }
void yield() noexcept { relax(); }

void sleep_until(TimePoint when) noexcept {
  if (active == nullptr) return;
  point();
  while (when > active->now()) active->block(WaitKind::kSleep, nullptr, when);
}

void set_name(const std::string& name) noexcept {
  if (active != nullptr) active->current().name = name.substr(0, 15);
}

bool set_nice(int) noexcept { return true; }

Result<void> set_cpu(int cpu) {
  if (active == nullptr) return {};
  point();
  if (cpu < 0) return fail(Errc::kInvalid, "cannot pin a thread to CPU " + std::to_string(cpu));
  if (!active->cpu_online(cpu)) {
    return fail_errno("cannot pin a thread to CPU " + std::to_string(cpu),
                      "the CPU is offline or outside this process's cpuset", EINVAL);
  }
  active->current().pinned = cpu;
  active->current().allowed.clear();
  return {};
}

Result<void> set_cpus(std::span<const int> cpus) {
  if (cpus.size() == 1) return set_cpu(cpus.front());
  if (active == nullptr) return {};
  point();
  if (std::none_of(cpus.begin(), cpus.end(), [](int cpu) { return active->cpu_online(cpu); })) {
    return fail_errno("cannot keep a thread to its CPUs", "they are offline or outside this process's cpuset", EINVAL);
  }
  active->current().pinned = -1;
  active->current().allowed.assign(cpus.begin(), cpus.end());
  return {};
}

}  // namespace this_thread

namespace sim::detail {

std::size_t new_slot_index() noexcept {
  static std::size_t next = 0;
  if (next == kMaxSlots) {
    std::fputs("upci simulation: more kinds of thread slots than there is room for\n", stderr);
    std::abort();
  }
  return next++;
}

void*& slot(std::size_t index) noexcept {
  static std::array<void*, kMaxSlots> outside{};
  return active != nullptr ? active->current().slots[index] : outside[index];
}

}  // namespace sim::detail

std::vector<int> online_cpus() { return active != nullptr ? active->online() : std::vector<int>{0}; }

// Control

namespace sim {

Outcome run(const Options& options, std::function<void()> main_body) {
  if (active != nullptr) return Outcome{.end = End::kFailed, .text = "sim::run() was called by a fiber of a run"};
  Scheduler scheduler(options);
  return scheduler.run(std::move(main_body));
}

bool running() noexcept { return active != nullptr; }
std::uint64_t current_seed() noexcept { return active != nullptr ? active->seed() : 0; }
std::uint64_t steps() noexcept { return active != nullptr ? active->steps() : 0; }
std::uint64_t random(std::uint64_t below) noexcept { return active != nullptr ? active->random_for_test(below) : 0; }

void set_online(int cpu, bool online) noexcept {
  if (active != nullptr) active->set_online(cpu, online);
}

void refuse_threads(bool refuse) noexcept {
  if (active != nullptr) active->refuses_threads = refuse;
}

void fail_threads(unsigned count) noexcept {
  if (active != nullptr) active->failing_threads = count;
}

void lose_wakeups(unsigned count) noexcept {
  if (active != nullptr) active->lost_wakeups = count;
}

void delay_alarms(Nanoseconds by) noexcept {
  if (active != nullptr) active->alarm_delay = by;
}

void fail_run(std::string text) noexcept {
  if (active == nullptr) {
    std::fprintf(stderr, "upci simulation: %s\n", text.c_str());
    std::abort();
  }
  active->fail(End::kFailed, std::move(text));
}

std::string describe_fibers() { return active != nullptr ? active->describe() : std::string(); }

bool run_on_fiber(ThreadId fiber, void (*function)(void*), void* argument) noexcept {
  return active != nullptr && active->visit(fiber, function, argument);
}

}  // namespace sim

}  // namespace upci::inline UPCI_VARIANT::platform
