// SPDX-License-Identifier: Apache-2.0
// One thread for each CPU, with callbacks around its life (the kernel's struct smp_hotplug_thread, kernel/smpboot.c).
//
// The order for each CPU's thread, all on that CPU except the first and, when its CPU has really gone, park and cleanup:
//   create                 once, by whoever starts the thread, while the thread is parked
//   setup                  once, before anything else runs
//   thread_should_run, thread_fn   again and again: it sleeps when there is nothing to do, until wake()
//   park, unpark           in turn, when the CPU goes and comes back; nothing runs in between
//   cleanup                once, if setup was called, as the last of all
// Stands on base/platform alone; it needs no Engine.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/platform.h"
#include "base/wait.h"
#include "workqueue/topology.h"

namespace upci::inline UPCI_VARIANT {

class PerCpuThread {
 public:
  /// Called with the CPU's number in the topology. Only the first two must be there. None may call an operation of this
  /// object but wake() and should_leave().
  struct Callbacks {
    std::function<bool(int cpu)> thread_should_run = {};  // whether there is something to do; must not sleep
    std::function<void(int cpu)> thread_fn = {};          // does it, and returns; while CPUs come and go, soon
    std::function<void(int cpu)> create = {};
    std::function<void(int cpu)> setup = {};
    std::function<void(int cpu)> park = {};
    std::function<void(int cpu)> unpark = {};
    std::function<void(int cpu, bool online)> cleanup = {};
  };
  struct Options {
    std::string name = "percpu/%u";  // of the threads; %u is the CPU. The system shows 15 characters
    Callbacks callbacks = {};
    bool selfparking = false;    // only park() and unpark() park the threads, and they begin parked
    std::vector<int> cpus = {};  // numbers of the topology; empty: all
  };

  /// Starts a thread for each of the CPUs that is online; one for each other CPU starts when that comes. Either all are
  /// started or none. Errors: kInvalid for a missing callback, a CPU that the topology lacks, or a name with another
  /// conversion than one %u; kSystem when the system refuses a thread.
  static Result<std::unique_ptr<PerCpuThread>> create(const Topology& topology, Options options);

  /// Stops the threads, parked ones too; each with a setup cleans up. Waits for the end of the thread_fn that run now.
  ~PerCpuThread();
  PerCpuThread(const PerCpuThread&) = delete;
  PerCpuThread& operator=(const PerCpuThread&) = delete;

  /// Lets the CPU's thread look whether it should run (wake_up_process). Any context; never blocks; nothing for a CPU
  /// that is parked or unknown. What was written before is seen by the thread_should_run that follows.
  void wake(int cpu) noexcept;
  void wake_all() noexcept;

  /// The CPU goes: parks its thread and returns when it is parked. Not for selfparking ones, for which it does nothing. A
  /// CPU that is offline already is fine. Errors: kInvalid for an unknown CPU; kState when one of the threads calls;
  /// kTimeout when the thread_fn did not return in time (the thread parks as soon as it does).
  Result<void> cpu_offline(int cpu, Deadline deadline = Deadline::after(std::chrono::seconds(10)));
  /// The CPU is back: pins the thread to it again, and lets it run; the thread is started if there is none. Returns when
  /// the thread was told, not when it runs. Errors: as cpu_offline(); kUnavailable when the process may not run on the
  /// CPU; kSystem when the thread cannot be started.
  Result<void> cpu_online(int cpu);

  /// For selfparking ones (the kernel's kthread_park and kthread_unpark): as cpu_offline() and cpu_online().
  Result<void> park(int cpu, Deadline deadline = Deadline::after(std::chrono::seconds(10)));
  Result<void> unpark(int cpu);

  /// For a long thread_fn: whether it should return because its CPU goes or the threads end (kthread_should_park, _stop).
  bool should_leave(int cpu) const noexcept;
  bool is_parked(int cpu) const noexcept;
  /// The thread's id, for reports; 0 if there is none.
  platform::ThreadId thread_id(int cpu) const noexcept;
  std::vector<int> cpus() const;

 private:
  struct PerCpu;
  explicit PerCpuThread(Options options);
  PerCpu* find(int cpu) const noexcept;
  Result<PerCpu*> checked(int cpu, const char* what) const;
  Result<void> start(PerCpu& own);
  Result<void> park_locked(PerCpu& own, Deadline deadline);
  Result<void> unpark_locked(PerCpu& own);
  static void kick(PerCpu& own) noexcept;
  static bool wait_parked(PerCpu& own, Deadline deadline) noexcept;
  void run(PerCpu& own);
  bool step(PerCpu& own);
  static void go_home(PerCpu& own);
  static void doze(PerCpu& own, std::uint32_t seen) noexcept;

  const Options options_;
  Mutex hotplug_;                              // one change of the set of running threads at a time
  std::vector<std::unique_ptr<PerCpu>> cpus_;  // unchanged after create()
};

}  // namespace upci::inline UPCI_VARIANT
