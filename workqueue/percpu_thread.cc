// SPDX-License-Identifier: Apache-2.0
#include "workqueue/percpu_thread.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/log.h"

namespace upci::inline UPCI_VARIANT {
namespace {

constexpr std::uint32_t kStop = 1;
constexpr std::uint32_t kPark = 2;
constexpr std::uint32_t kSleeps = 1;  // the low bit of PerCpu::kicks; the rest counts
constexpr std::uint32_t kOneKick = 2;
constexpr std::chrono::seconds kStopComplaint{10};

/// The name with the CPU in it; the pattern has one %u.
Result<std::string> thread_name(const std::string& pattern, int cpu) {
  const std::size_t place = pattern.find('%');
  if (place == std::string::npos || pattern.compare(place, 2, "%u") != 0 ||
      pattern.find('%', place + 1) != std::string::npos) {
    return fail(Errc::kInvalid, "'" + pattern + "' cannot name the threads of the CPUs",
                "give it one %u, which becomes the CPU's number");
  }
  std::string name = pattern;
  name.replace(place, 2, std::to_string(cpu));
  return name;
}

std::string on(int cpu) { return " of CPU " + std::to_string(cpu); }

}  // namespace

struct PerCpuThread::PerCpu {
  enum class Status : std::uint8_t { kNone, kActive, kParked };  // what the callbacks last said

  int cpu = 0;
  int os_cpu = 0;
  std::string name;
  platform::Thread thread;        // of hotplug_
  Status status = Status::kNone;  // the thread's own
  bool moved = true;              // the thread's own: its CPU may have gone since it was pinned
  bool away = false;              // the thread's own: it could not be pinned, and has said so
  platform::Atomic<std::uint32_t> requests{0};
  platform::Atomic<std::uint32_t> kicks{0};
  platform::Atomic<std::uint32_t> parked{0};  // a futex word: 1 when the thread has seen kPark, 2 when it has ended
  platform::Atomic<platform::ThreadId> thread_id{0};
};

PerCpuThread::PerCpuThread(Options options) : options_(std::move(options)) {}

Result<std::unique_ptr<PerCpuThread>> PerCpuThread::create(const Topology& topology, Options options) {
  if (!options.callbacks.thread_should_run || !options.callbacks.thread_fn) {
    return fail(Errc::kInvalid, "a thread for each CPU needs a thread_should_run and a thread_fn");
  }
  std::vector<int> wanted = options.cpus;
  if (wanted.empty()) {
    for (const Topology::Cpu& cpu : topology.cpus()) wanted.push_back(cpu.id);
  }
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  std::unique_ptr<PerCpuThread> self(new PerCpuThread(std::move(options)));
  for (const int id : wanted) {
    const Topology::Cpu* const cpu = topology.find(id);
    if (cpu == nullptr) return fail(Errc::kInvalid, "there is no CPU " + std::to_string(id));
    auto own = std::make_unique<PerCpu>();
    own->cpu = id;
    own->os_cpu = cpu->os_cpu;
    UPCI_TRY_ASSIGN(own->name, thread_name(self->options_.name, id));
    self->cpus_.push_back(std::move(own));
  }
  const std::vector<int> online = platform::online_cpus();
  const std::lock_guard held(self->hotplug_);
  for (const auto& own : self->cpus_) {
    if (!std::binary_search(online.begin(), online.end(), own->os_cpu)) continue;
    UPCI_TRY(self->start(*own));  // the destructor stops those before
    if (!self->options_.selfparking) UPCI_TRY(self->unpark_locked(*own));
  }
  return self;
}

PerCpuThread::~PerCpuThread() {
  const std::lock_guard held(hotplug_);
  for (const auto& own : cpus_) {
    own->requests.fetch_or(kStop);
    kick(*own);
  }
  for (const auto& own : cpus_) {
    if (!own->thread.joinable()) continue;
    while (own->parked.load(std::memory_order_acquire) != 2) {
      const std::uint32_t seen = own->parked.load(std::memory_order_acquire);
      const BlockingScope blocking;
      if (seen != 2 && !platform::wait_word(own->parked, seen, platform::Clock::now() + kStopComplaint)) {
        log::warn("thread '{}' has not ended within 10 s: its thread_fn does not return", own->name);
      }
    }
    own->thread.join();
  }
}

// The set of running threads

PerCpuThread::PerCpu* PerCpuThread::find(int cpu) const noexcept {
  const auto found = std::find_if(cpus_.begin(), cpus_.end(), [cpu](const auto& own) { return own->cpu == cpu; });
  return found != cpus_.end() ? found->get() : nullptr;
}

Result<PerCpuThread::PerCpu*> PerCpuThread::checked(int cpu, const char* what) const {
  PerCpu* const own = find(cpu);
  if (own == nullptr) {
    return fail(Errc::kInvalid, std::string("cannot ") + what + " the thread" + on(cpu) + ": there is none here");
  }
  const platform::ThreadId self = platform::this_thread::id();
  for (const auto& each : cpus_) {
    if (each->thread_id.load(std::memory_order_relaxed) == self) {
      return fail(Errc::kState,
                  std::string("cannot ") + what + " the thread" + on(cpu) + " from thread '" + each->name +
                      "': it would wait for itself",
                  "do it from a thread that is not one of them");
    }
  }
  return own;
}

Result<void> PerCpuThread::start(PerCpu& own) {
  own.requests.store(kPark, std::memory_order_relaxed);
  auto thread = platform::Thread::create({.name = own.name, .cpu = own.os_cpu}, [this, &own] { run(own); });
  if (!thread) return std::unexpected(std::move(thread).error());
  own.thread = std::move(*thread);
  // It parks at once: no callback of the thread's own can keep it from that.
  wait_parked(own, Deadline::never());
  if (options_.callbacks.create) options_.callbacks.create(own.cpu);
  return {};
}

Result<void> PerCpuThread::park_locked(PerCpu& own, Deadline deadline) {
  if (!own.thread.joinable()) return {};
  // In this order: what the thread says of an earlier parking, late, is true for this one, too, once the request is there;
  // and it says so again each time that it is woken.
  own.requests.fetch_or(kPark);
  own.parked.store(0);
  kick(own);
  if (wait_parked(own, deadline)) return {};
  return fail(Errc::kTimeout, "thread '" + own.name + "' did not park in time",
              "its thread_fn has to return while a CPU goes; it can ask should_leave()");
}

Result<void> PerCpuThread::unpark_locked(PerCpu& own) {
  if (!own.thread.joinable()) UPCI_TRY(start(own));
  if ((own.requests.load(std::memory_order_relaxed) & kPark) == 0) return {};
  own.requests.fetch_and(~kPark);
  kick(own);
  return {};
}

Result<void> PerCpuThread::cpu_offline(int cpu, Deadline deadline) {
  UPCI_TRY_ASSIGN(PerCpu * own, checked(cpu, "park"));
  if (options_.selfparking) return {};
  const std::lock_guard held(hotplug_);
  return park_locked(*own, deadline);
}

Result<void> PerCpuThread::cpu_online(int cpu) {
  UPCI_TRY_ASSIGN(PerCpu * own, checked(cpu, "unpark"));
  const std::lock_guard held(hotplug_);
  const std::vector<int> online = platform::online_cpus();
  if (!std::binary_search(online.begin(), online.end(), own->os_cpu)) {
    return fail(
        Errc::kUnavailable,
        "cannot unpark the thread" + on(cpu) + ": this process may not run on CPU " + std::to_string(own->os_cpu),
        "bring it online, or add it to the cpuset");
  }
  if (options_.selfparking) return own->thread.joinable() ? Result<void>{} : start(*own);
  return unpark_locked(*own);
}

Result<void> PerCpuThread::park(int cpu, Deadline deadline) {
  UPCI_TRY_ASSIGN(PerCpu * own, checked(cpu, "park"));
  const std::lock_guard held(hotplug_);
  return park_locked(*own, deadline);
}

Result<void> PerCpuThread::unpark(int cpu) {
  UPCI_TRY_ASSIGN(PerCpu * own, checked(cpu, "unpark"));
  const std::lock_guard held(hotplug_);
  return unpark_locked(*own);
}

bool PerCpuThread::should_leave(int cpu) const noexcept {
  const PerCpu* const own = find(cpu);
  return own == nullptr || own->requests.load(std::memory_order_acquire) != 0;
}

bool PerCpuThread::is_parked(int cpu) const noexcept {
  const PerCpu* const own = find(cpu);
  return own != nullptr && (own->requests.load() & kPark) != 0 && own->parked.load() == 1;
}

platform::ThreadId PerCpuThread::thread_id(int cpu) const noexcept {
  const PerCpu* const own = find(cpu);
  return own != nullptr ? own->thread_id.load(std::memory_order_acquire) : 0;
}

std::vector<int> PerCpuThread::cpus() const {
  std::vector<int> numbers;
  for (const auto& own : cpus_) numbers.push_back(own->cpu);
  return numbers;
}

// Waking

void PerCpuThread::wake(int cpu) noexcept {
  if (PerCpu* const own = find(cpu)) kick(*own);
}

void PerCpuThread::wake_all() noexcept {
  for (const auto& own : cpus_) kick(*own);
}

void PerCpuThread::kick(PerCpu& own) noexcept {
  // The count changes even if nobody sleeps: a thread that has just looked around does not go to sleep then.
  if ((own.kicks.fetch_add(kOneKick) & kSleeps) != 0) platform::wake_word(&own.kicks, 1);
}

bool PerCpuThread::wait_parked(PerCpu& own, Deadline deadline) noexcept {
  while (own.parked.load(std::memory_order_acquire) == 0) {
    const BlockingScope blocking;
    if (!platform::wait_word(own.parked, 0, deadline.when())) return own.parked.load(std::memory_order_acquire) != 0;
  }
  return true;
}

// The thread

void PerCpuThread::doze(PerCpu& own, std::uint32_t seen) noexcept {
  if (!own.kicks.compare_exchange_strong(seen, seen | kSleeps)) return;
  platform::wait_word(own.kicks, seen | kSleeps);
  own.kicks.fetch_and(~kSleeps);
}

void PerCpuThread::run(PerCpu& own) {
  own.thread_id.store(platform::this_thread::id(), std::memory_order_release);
  while (step(own)) {}
  own.thread_id.store(0, std::memory_order_release);
  own.parked.store(2, std::memory_order_release);
  platform::wake_word(&own.parked, 1);
}

// The system takes the pinning away with the CPU, and (before Linux 6.2) whenever the cpuset changes, of whatever CPU.
void PerCpuThread::go_home(PerCpu& own) {
  const Result<void> pinned = platform::this_thread::set_cpu(own.os_cpu);
  if (!pinned && !own.away) log::info("thread '{}' runs elsewhere: {}", own.name, pinned.error().message());
  own.away = !pinned;
}

// One turn of smpboot_thread_fn: to stop comes before to park, that before the rest. False at the end.
bool PerCpuThread::step(PerCpu& own) {
  using Status = PerCpu::Status;
  const Callbacks& call = options_.callbacks;
  const std::uint32_t kicks = own.kicks.load() & ~kSleeps;
  const std::uint32_t requests = own.requests.load();
  if ((requests & kStop) != 0) {
    if (own.status != Status::kNone && call.cleanup) {
      const std::vector<int> online = platform::online_cpus();
      call.cleanup(own.cpu, std::binary_search(online.begin(), online.end(), own.os_cpu));
    }
    return false;
  }
  if ((requests & kPark) != 0) {
    if (own.status == Status::kActive) {
      if (call.park) call.park(own.cpu);
      own.status = Status::kParked;
    }
    own.moved = true;
    if (own.parked.exchange(1) == 0) platform::wake_word(&own.parked, 1);
    doze(own, kicks);
    return true;
  }
  if (std::exchange(own.moved, false) || platform::this_thread::current_cpu() != own.os_cpu) go_home(own);
  if (own.status == Status::kNone) {
    if (call.setup) call.setup(own.cpu);
    own.status = Status::kActive;
  } else if (own.status == Status::kParked) {
    if (call.unpark) call.unpark(own.cpu);
    own.status = Status::kActive;
  } else if (call.thread_should_run(own.cpu)) {
    call.thread_fn(own.cpu);
  } else {
    doze(own, kicks);
  }
  return true;
}

}  // namespace upci::inline UPCI_VARIANT
