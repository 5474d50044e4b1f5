// SPDX-License-Identifier: Apache-2.0
// Callbacks for CPUs that come and go, registered at run time (the kernel's cpuhp_setup_state, kernel/cpu.c), and the
// watcher that finds out that they do.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "base/wait.h"
#include "workqueue/topology.h"

namespace upci::inline UPCI_VARIANT {

/// An ordered list of states that each CPU goes through: upwards when it comes (startup of each, in the order of their
/// registration), downwards when it goes (teardown of each, in reverse). Its calls may come from any thread; the callbacks
/// run in the calling thread, one at a time; of this object they may only ask.
class HotplugCallbacks {
 public:
  using Startup = std::function<Result<void>(int cpu)>;
  using Teardown = std::function<void(int cpu)>;
  using State = int;  // names a registered pair; never used twice

  /// Knows the topology's CPUs; those are online whose system CPU the process may run on now.
  explicit HotplugCallbacks(const Topology& topology);
  ~HotplugCallbacks();
  HotplugCallbacks(const HotplugCallbacks&) = delete;
  HotplugCallbacks& operator=(const HotplugCallbacks&) = delete;

  /// Registers, and calls `startup` for each CPU that is online, in ascending order (cpuhp_setup_state). If one fails, the
  /// CPUs before it are torn down, in reverse order; nothing is registered then. Either callback may be empty.
  /// Errors: the startup's, with the state's and the CPU's names; kState when called by a callback.
  Result<State> setup_state(std::string name, Startup startup, Teardown teardown);
  /// The same without calling (cpuhp_setup_state_nocalls): the CPUs that are online count as started.
  Result<State> setup_state_nocalls(std::string name, Startup startup, Teardown teardown);
  /// Calls `teardown` for each CPU that is online, in ascending order, and forgets it (cpuhp_remove_state).
  /// Errors: kInvalid for a state that is not registered; kState when called by a callback.
  Result<void> remove_state(State state);
  Result<void> remove_state_nocalls(State state);

  /// A CPU has come: its startups. If one fails, those before it are torn down, in reverse order, and the CPU stays out.
  /// A CPU that is online already is fine. Errors: kInvalid for an unknown CPU; the startup's; kState from a callback.
  Result<void> cpu_online(int cpu);
  /// A CPU goes: its teardowns. A CPU that is offline already is fine. Errors: kInvalid, kState as above.
  Result<void> cpu_offline(int cpu);

  std::vector<int> online() const;
  std::vector<int> cpus() const;
  std::vector<std::string> states() const;  // the names, in order

 private:
  struct Entry {
    State id = 0;
    std::string name;
    Startup startup;
    Teardown teardown;
  };
  struct Cpu {
    int id = 0;
    bool online = false;
  };
  class Turn;

  Result<State> install(std::string name, Startup startup, Teardown teardown, bool call);
  Result<void> uninstall(State state, bool call);
  static Result<void> start(const Entry& entry, int cpu);
  static void stop(const Entry& entry, int cpu);

  mutable Mutex lock_;
  mutable platform::Atomic<platform::ThreadId> owner_{0};  // who holds lock_ around callbacks; 0: nobody
  std::vector<Entry> states_;                              // lock_
  std::vector<Cpu> cpus_;                                  // lock_, ascending
  State next_ = 1;                                         // lock_
};

/// Finds out which CPUs the process may run on (online, in its affinity mask, in its cpuset), and tells the callbacks what
/// has changed. Has no thread: somebody who is not pinned to a CPU calls poll() every now and then (a thread that is pinned
/// sees only its own CPU).
class CpuWatcher {
 public:
  struct Change {
    int cpu = 0;
    bool online = false;
    Result<void> result =
        {};  // of the transition; a CPU whose startup failed is tried again when it comes the next time
  };

  CpuWatcher(const Topology& topology, HotplugCallbacks& callbacks);
  /// What went first, ascending, then what came. Nothing at all is online, if only because the caller is pinned to a CPU
  /// outside of the topology: that is taken for a mistake, and no change.
  std::vector<Change> poll();

 private:
  const std::vector<Topology::Cpu> cpus_;
  HotplugCallbacks& callbacks_;
  std::vector<bool> was_online_;  // the polling thread's own
};

}  // namespace upci::inline UPCI_VARIANT
