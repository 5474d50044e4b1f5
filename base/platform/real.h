// SPDX-License-Identifier: Apache-2.0
// The platform seam on the real operating system. The contract is in base/platform.h; do not include this directly.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::platform {

using Nanoseconds = std::chrono::nanoseconds;
using Clock = std::chrono::steady_clock;
using TimePoint = std::chrono::time_point<Clock, Nanoseconds>;
/// The time of day: since 1970, UTC. For what people read; it can jump.
inline Nanoseconds time_of_day() noexcept { return std::chrono::system_clock::now().time_since_epoch(); }
inline constexpr TimePoint kNever = TimePoint::max();

template <class T>
using Atomic = std::atomic<T>;

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UPCI_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define UPCI_TSAN 1
#endif
#if defined(UPCI_TSAN)
// ThreadSanitizer does not understand fences: a read-modify-write on one shared word gives the same order and is seen.
void fence(std::memory_order order) noexcept;
#else
inline void fence(std::memory_order order) noexcept { std::atomic_thread_fence(order); }
#endif

inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Asks for the cache line, to read it or to write it. A hint: it waits for nothing and never faults.
inline void prefetch(const void* at) noexcept { __builtin_prefetch(at); }
inline void prefetch_for_write(const void* at) noexcept {
#if defined(__x86_64__)
  // What the builtin makes of it for a processor of unknown age asks for the line to read only. Where the instruction is not
  // known it does nothing.
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 1);
#endif
}

using Mutex = std::mutex;

/// Sleeps while `word` holds `expected`, until `until`. Returns false when the time came first; may return true early.
bool wait_word(const Atomic<std::uint32_t>& word, std::uint32_t expected, TimePoint until = kNever) noexcept;
/// Wakes up to `count` sleepers of `word`; only its address is used.
void wake_word(const Atomic<std::uint32_t>* word, int count) noexcept;

struct Event {
  std::uint64_t token = 0;
};

struct EventWait {
  std::size_t events = 0;  // how many entries of the span were filled
  bool notified = false;   // a notify() was consumed
  bool alarm = false;      // the alarm went off (it is disarmed then)
  bool timed_out = false;  // none of these until the time given
};

class SwitchWatch;  // base/platform/real_watch.h

/// Fd readiness, notification and an alarm behind one wait. All members are thread-safe.
class EventQueue {
 public:
  static Result<EventQueue> create();
  EventQueue(EventQueue&&) noexcept = default;
  EventQueue& operator=(EventQueue&&) noexcept = default;

  /// The largest token that add() takes; the two above it are the queue's own.
  static constexpr std::uint64_t kMaxToken = ~std::uint64_t{0} - 2;

  /// Reports `token` once each time `fd` becomes readable (edge-triggered: drain it).
  /// Errors: kInvalid for a token above kMaxToken; kSystem when `fd` cannot be waited for or is in the queue already.
  Result<void> add(int fd, std::uint64_t token);
  Result<void> remove(int fd);
  /// Reports `token` each time the watched thread is switched while armed. Remove it before it is destroyed. An event may
  /// be late: look at the watch's state().
  Result<void> add(const SwitchWatch& watch, std::uint64_t token);
  Result<void> remove(const SwitchWatch& watch);
  /// Wakes at least one waiter, now or the next to come. Never blocks; safe in any context.
  void notify() noexcept;
  /// One waiter wakes at `when`; kNever disarms. A later call replaces an earlier one.
  void set_alarm(TimePoint when) noexcept;
  /// `events` must have room for at least one. Never ends early without a cause; the cause may have been taken by another
  /// waiter only if that one was told of it.
  EventWait wait(std::span<Event> events, TimePoint until = kNever) noexcept;

 private:
  EventQueue(UniqueFd epoll, UniqueFd wake, UniqueFd timer);
  UniqueFd epoll_;
  UniqueFd wake_;
  UniqueFd timer_;
};

using ThreadId = int;  // the kernel's thread id

class Thread {
 public:
  struct Options {
    std::string name;  // cut to 15 characters by the kernel
    int cpu = -1;      // the OS CPU to be pinned to, or -1
  };
  /// Errors: kSystem when the OS refuses the thread or the CPU.
  static Result<Thread> create(Options options, std::function<void()> body);

  Thread() noexcept = default;
  Thread(Thread&& other) noexcept;
  Thread& operator=(Thread&& other) noexcept;
  ~Thread();  // must have been joined or detached

  bool joinable() const noexcept { return joinable_; }
  ThreadId id() const noexcept { return id_; }
  void join();
  void detach();

 private:
  std::uintptr_t handle_ = 0;  // pthread_t
  ThreadId id_ = 0;
  bool joinable_ = false;
};

namespace this_thread {
ThreadId id() noexcept;
int current_cpu() noexcept;
void yield() noexcept;
void sleep_until(TimePoint when) noexcept;
void set_name(const std::string& name) noexcept;
/// Pins the calling thread to one OS CPU. Errors: kSystem (CPU offline or outside the cpuset).
Result<void> set_cpu(int cpu);
/// Lets the calling thread run on these OS CPUs only. Errors: kInvalid (none); kSystem (none of them is there).
Result<void> set_cpus(std::span<const int> cpus);
/// Asks for a nice level of the calling thread; without the privilege it stays as it was, and false comes back.
bool set_nice(int nice) noexcept;
}  // namespace this_thread

template <class Tag>
void*& thread_slot() noexcept {
  static thread_local void* slot = nullptr;
  return slot;
}

/// To be called after a descriptor that may be in an EventQueue was made readable by this process: nothing here, since the
/// kernel knows; the simulation looks at its descriptors then.
inline void fd_signalled() noexcept {}

/// The OS CPUs that this process may run on (its affinity mask), ascending.
std::vector<int> online_cpus();

}  // namespace upci::inline UPCI_VARIANT::platform

#include "base/platform/real_watch.h"  // IWYU pragma: export
