// SPDX-License-Identifier: Apache-2.0
#include "base/platform.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <exception>
#include <memory>
#include <utility>

namespace upci::inline UPCI_VARIANT::platform {
namespace {

timespec to_timespec(TimePoint when) noexcept {
  // The kernel refuses negative times; what lies before the clock's start is past anyway.
  const std::int64_t ns = std::max<std::int64_t>(0, when.time_since_epoch().count());
  timespec result{};
  result.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
  result.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  return result;
}

}  // namespace

#if defined(UPCI_TSAN)
void fence(std::memory_order) noexcept {
  // One word for all fences of the process: too strong, never too weak.
  static std::atomic<std::uint32_t> word{0};
  word.fetch_add(1, std::memory_order_seq_cst);
}
#endif

bool wait_word(const Atomic<std::uint32_t>& word, std::uint32_t expected, TimePoint until) noexcept {
  static_assert(sizeof(Atomic<std::uint32_t>) == sizeof(std::uint32_t));
  const int saved_errno = errno;
  timespec when{};
  const timespec* timeout = nullptr;
  if (until != kNever) {
    when = to_timespec(until);
    timeout = &when;
  }
  // FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC, which is what steady_clock counts.
  const long rc = ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, timeout, nullptr,
                            FUTEX_BITSET_MATCH_ANY);
  const bool timed_out = rc < 0 && errno == ETIMEDOUT;
  errno = saved_errno;
  return !timed_out;
}

void wake_word(const Atomic<std::uint32_t>* word, int count) noexcept {
  const int saved_errno = errno;
  ::syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, nullptr, nullptr, 0);
  errno = saved_errno;
}

namespace {

// What the creator hands to the new thread; it lives on the creator's stack until `state` is told.
struct ThreadStart {
  Thread::Options options;
  std::function<void()> body;
  ThreadId id = 0;
  int error = 0;
  Atomic<std::uint32_t> state{0};  // 1: id and error are set, and nothing else of this is touched any more
};

void* thread_main(void* argument) {
  auto* start = static_cast<ThreadStart*>(argument);
  std::function<void()> body = std::move(start->body);
  if (!start->options.name.empty()) this_thread::set_name(start->options.name);
  bool ready = true;
  if (start->options.cpu >= 0) {
    if (Result<void> pinned = this_thread::set_cpu(start->options.cpu); !pinned) {
      start->error = pinned.error().sys_errno;
      ready = false;
    }
  }
  start->id = this_thread::id();
  start->state.store(1, std::memory_order_release);
  wake_word(&start->state, INT_MAX);
  if (ready) body();
  return nullptr;
}

}  // namespace

Result<Thread> Thread::create(Options options, std::function<void()> body) {
  ThreadStart start{.options = std::move(options), .body = std::move(body)};
  pthread_t handle{};
  if (const int error = ::pthread_create(&handle, nullptr, thread_main, &start); error != 0) {
    return fail_errno("cannot create the thread '" + start.options.name + "'",
                      "raise the limit on the number of processes (ulimit -u), or stop some", error);
  }
  while (start.state.load(std::memory_order_acquire) == 0) wait_word(start.state, 0);
  if (start.error != 0) {
    ::pthread_join(handle, nullptr);
    return fail_errno("cannot pin the thread '" + start.options.name + "' to CPU " + std::to_string(start.options.cpu),
                      "the CPU is offline or outside this process's cpuset", start.error);
  }
  Thread thread;
  static_assert(sizeof(pthread_t) <= sizeof(thread.handle_));
  thread.handle_ = static_cast<std::uintptr_t>(handle);
  thread.id_ = start.id;
  thread.joinable_ = true;
  return thread;
}

Thread::Thread(Thread&& other) noexcept
    : handle_(std::exchange(other.handle_, 0)),
      id_(std::exchange(other.id_, 0)),
      joinable_(std::exchange(other.joinable_, false)) {}

Thread& Thread::operator=(Thread&& other) noexcept {
  if (this == &other) return *this;
  if (joinable_) std::terminate();  // as std::thread: neither joined nor detached
  handle_ = std::exchange(other.handle_, 0);
  id_ = std::exchange(other.id_, 0);
  joinable_ = std::exchange(other.joinable_, false);
  return *this;
}

Thread::~Thread() {
  if (joinable_) std::terminate();
}

void Thread::join() {
  if (!joinable_) return;
  joinable_ = false;
  ::pthread_join(static_cast<pthread_t>(handle_), nullptr);
}

void Thread::detach() {
  if (!joinable_) return;
  joinable_ = false;
  ::pthread_detach(static_cast<pthread_t>(handle_));
}

namespace this_thread {

ThreadId id() noexcept {
  static thread_local const ThreadId cached = ::gettid();
  return cached;
}

int current_cpu() noexcept { return ::sched_getcpu(); }

void yield() noexcept { ::sched_yield(); }

void sleep_until(TimePoint when) noexcept {
  const timespec until = to_timespec(when);
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {}
}

void set_name(const std::string& name) noexcept {
  // The kernel takes 15 characters and refuses more.
  char cut[16] = {};
  name.copy(cut, sizeof(cut) - 1);
  ::pthread_setname_np(::pthread_self(), cut);
}

bool set_nice(int nice) noexcept {
  // On Linux, who == 0 is the calling thread, not the process.
  return ::setpriority(PRIO_PROCESS, 0, nice) == 0;
}

Result<void> set_cpu(int cpu) { return set_cpus(std::span(&cpu, 1)); }

Result<void> set_cpus(std::span<const int> cpus) {
  const auto what = [cpus] {
    std::string text = cpus.size() == 1 ? "cannot pin a thread to CPU" : "cannot keep a thread to the CPUs";
    for (const int cpu : cpus) text += " " + std::to_string(cpu);
    return text;
  };
  if (cpus.empty() || *std::ranges::min_element(cpus) < 0) return fail(Errc::kInvalid, what());
  const auto count = static_cast<std::size_t>(*std::ranges::max_element(cpus)) + 1;
  cpu_set_t* set = CPU_ALLOC(count);
  if (set == nullptr) return fail_errno(what(), {}, ENOMEM);
  const std::size_t size = CPU_ALLOC_SIZE(count);
  CPU_ZERO_S(size, set);
  for (const int cpu : cpus) CPU_SET_S(static_cast<std::size_t>(cpu), size, set);
  const int rc = ::sched_setaffinity(0, size, set);
  const int error = errno;
  CPU_FREE(set);
  if (rc != 0) return fail_errno(what(), "the CPU is offline or outside this process's cpuset", error);
  return {};
}

}  // namespace this_thread

std::vector<int> online_cpus() {
  std::vector<int> cpus;
  // The kernel refuses a mask that is smaller than its own; grow until it fits.
  for (std::size_t count = 1024; count <= (std::size_t{1} << 20); count *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(count), [](cpu_set_t* s) { CPU_FREE(s); });
    if (!set) return cpus;
    const std::size_t size = CPU_ALLOC_SIZE(count);
    CPU_ZERO_S(size, set.get());
    if (::sched_getaffinity(0, size, set.get()) != 0) {
      if (errno == EINVAL) continue;
      return cpus;
    }
    for (std::size_t cpu = 0; cpu < count; ++cpu) {
      if (CPU_ISSET_S(cpu, size, set.get())) cpus.push_back(static_cast<int>(cpu));
    }
    return cpus;
  }
  return cpus;
}

}  // namespace upci::inline UPCI_VARIANT::platform
