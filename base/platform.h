// SPDX-License-Identifier: Apache-2.0
// The platform seam: threads, mutexes, waits, time, CPU numbers, fd readiness, thread-locals and atomics.
//
// Two headers implement the same names in upci::platform. The real one is the operating system at no extra cost. The
// simulated one runs every thread as a fiber of one OS thread, on a simulated clock, and a seeded scheduler picks who
// runs next at each of these calls. No other file of the twice-built libraries (base, workqueue, device, pci, virtio,
// drivers, the in-process devices) may use <thread>, <mutex>, <atomic>, <condition_variable>, std::chrono clocks, epoll,
// futexes, sleeps or thread_local: tests/house/ refuses them.
//
// The contract, for both:
//   Clock                   steady; Clock::now(), TimePoint, kNever (= never comes)
//   Atomic<T>, fence(o)     std::atomic<T> and its fence (under ThreadSanitizer a read-modify-write)
//   relax()                 in a spin loop: let others get on
//   prefetch, prefetch_for_write  hints that a cache line will be needed
//   Mutex                   lock, try_lock, unlock; does not tell the blocking hook (engine-internal locks)
//   wait_word / wake_word   futex: sleep while *word == expected, until a time; wake up to n sleepers. Waking never
//                           dereferences the word, so its memory may be gone by then.
//   EventQueue              fd readiness (edge-triggered), notify() and an alarm, waited for in one place by any number of
//                           threads; each event wakes at least one of them
//   SwitchWatch             tells another thread, through an EventQueue, when the watched one is switched out while armed,
//                           and at any time whether it runs, sleeps or is preempted; arming and looking cost no system
//                           call. The watched thread calls create(), arm() and disarm(); one watcher at a time (the
//                           pool's lock) calls rearm(), after an event and before it relies on the next one; anybody
//                           calls state(). create() fails where the system does not allow it: self_test() first.
//   ThreadProbe             CPU time, time in the run queue, asleep or not, and in what, of any thread; by system calls
//   fd_signalled()          to be called after making readable a descriptor that may be in an EventQueue (EventFd does)
//   Thread                  create (named, pinned to one OS CPU or not), join, detach
//   this_thread::...        id(), current_cpu(), yield(), sleep_until() (does not tell the hook), set_name(), set_cpu(), set_cpus()
//   thread_slot<Tag>()      a void* per thread, zero at first
//   online_cpus()           the OS CPUs that this process may run on, ascending
#pragma once

#include "base/variant.h"

#if defined(UPCI_SIM)
#include "base/platform/sim.h"  // IWYU pragma: export
#else
#include "base/platform/real.h"  // IWYU pragma: export
#endif
