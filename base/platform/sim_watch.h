// SPDX-License-Identifier: Apache-2.0
// Watching threads in simulation: SwitchWatch and ThreadProbe. Included by base/platform/sim.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/platform/sim.h"
#include "base/platform/switch_ring.h"
#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::platform {

namespace sim::detail {
struct WatchState;
struct WatchStateDeleter {
  void operator()(WatchState* state) const noexcept;
};
}  // namespace sim::detail

/// The CPU time is what sim::consume() and fruitless yielding used; nobody ever waits for a CPU.
class ThreadProbe {
 public:
  static Result<ThreadProbe> open(ThreadId thread);
  Nanoseconds cpu_time() const noexcept;
  Nanoseconds queue_wait() const noexcept { return {}; }
  bool asleep() const noexcept;
  std::string where() const;

 private:
  ThreadProbe(ThreadId thread, std::uint64_t run) noexcept : thread_(thread), run_(run) {}
  ThreadId thread_;
  std::uint64_t run_;
};

/// A fiber that waits for anything is switched out by its own will; at other scheduling points it is preempted, of which
/// some, decided by the seed, are reported as well. Room and dropped records are as in the kernel's ring.
class SwitchWatch {
 public:
  using State = SwitchState;

  /// One for each fiber at most. Errors: kState for a second one or outside of a run; kSystem while
  /// sim::refuse_switch_watch() says so.
  static Result<SwitchWatch> create();
  SwitchWatch(SwitchWatch&&) noexcept = default;
  SwitchWatch& operator=(SwitchWatch&&) noexcept = default;

  void arm() noexcept;
  void disarm() noexcept;
  State state() const noexcept;
  State rearm(const ThreadProbe& probe, int cpu = -1) noexcept;
  bool lapsed() const noexcept;
  static Result<void> self_test();

 private:
  friend class EventQueue;
  using Pointer = std::unique_ptr<sim::detail::WatchState, sim::detail::WatchStateDeleter>;
  explicit SwitchWatch(Pointer state) noexcept : state_(std::move(state)) {}
  Pointer state_;
};

}  // namespace upci::inline UPCI_VARIANT::platform
