// SPDX-License-Identifier: Apache-2.0
// Watching threads on the real operating system: SwitchWatch and ThreadProbe. Included by base/platform/real.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/platform/real.h"
#include "base/platform/switch_ring.h"
#include "base/unique_fd.h"
#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::platform {

/// Looks at one thread of this process from outside. Two descriptors are kept open for it. Any thread may call; each
/// call is for itself. After the thread's end all times are 0 and it is not asleep.
class ThreadProbe {
 public:
  /// Errors: kSystem when there is no such thread, or /proc is not mounted.
  static Result<ThreadProbe> open(ThreadId thread);

  /// The CPU time that it has used. One system call, 0.4 us.
  Nanoseconds cpu_time() const noexcept;
  /// How long it could have run but had no CPU (schedstat's second number); 0 where the kernel does not count that.
  Nanoseconds queue_wait() const noexcept;
  /// Whether it sleeps (state S or D); neither running nor waiting for a CPU. One system call, about 1.5 us. A thread that
  /// is about to sleep counts as asleep already.
  bool asleep() const noexcept;
  /// What it sleeps in, as far as this process may know: the kernel function ("pipe_read"), else the system call
  /// ("read"), else "". Opens files: for reports.
  std::string where() const;

 private:
  ThreadProbe(ThreadId thread, UniqueFd stat, UniqueFd schedstat) noexcept;
  ThreadId thread_;
  UniqueFd stat_;
  UniqueFd schedstat_;
};

/// Tells when a thread is switched out, by the kernel's own records (perf_event_open with context_switch).
class SwitchWatch {
 public:
  using State = SwitchState;

  /// Watches the calling thread. 17 us, one descriptor, 8 KiB of locked memory.
  /// Errors: kSystem when the system does not allow it, with what to change.
  static Result<SwitchWatch> create();

  SwitchWatch(SwitchWatch&& other) noexcept;
  SwitchWatch& operator=(SwitchWatch&& other) noexcept;
  ~SwitchWatch();

  /// Called by the watched thread. From now on its first switch out is reported to the EventQueue, with a sleep's and a
  /// preemption's alike: state() tells which. Up to three more switches may be reported. No system call.
  void arm() noexcept;
  /// Called by the watched thread: no further switch is reported. No system call.
  void disarm() noexcept;

  /// Any thread, at any time: what the watched thread does, without a system call. See rearm() for kUnknown.
  State state() const noexcept;

  /// For another thread that took an event, or is about to wait for one: arms again, unless the watched thread has disarmed
  /// meanwhile, and says what it does: never kUnknown. Where the records do not tell, `probe` is asked, with a system
  /// call. What the thread does after that is reported again; but not when it is preempted (lapsed() is true then). A
  /// caller on `cpu`, the one CPU that the thread is meant to run on, has taken it from the thread; -1: it may run
  /// anywhere. One caller at a time.
  State rearm(const ThreadProbe& probe, int cpu = -1) noexcept;

  /// Any thread, at any time: whether nothing is reported because rearm() found the thread preempted, and its being switched in
  /// would have been reported, too. rearm() has to be called again, from another CPU or later.
  bool lapsed() const noexcept;

  /// Really blocks and yields in threads of its own, and checks that the records tell the one from the other.
  /// Errors: create()'s; kSystem when nothing was reported within two seconds, or a yield as a sleep.
  static Result<void> self_test();

 private:
  friend class EventQueue;
  SwitchWatch(UniqueFd event, void* mapping, std::size_t page) noexcept;
  bool judge(std::uint64_t word, State& state, detail::SwitchWindow& next, bool& slept) const noexcept;
  bool slept_since_armed() const noexcept;
  std::uint64_t head() const noexcept;
  std::uint32_t ins() const noexcept;
  std::atomic_ref<std::uint64_t> tail() const noexcept;

  UniqueFd event_;
  void* mapping_ = nullptr;  // the header page, then one page of records
  std::size_t page_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::platform
