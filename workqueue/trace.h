// SPDX-License-Identifier: Apache-2.0
// The four tracepoints of the workqueue, as USDT probes: a nop each in the code, and a note in the program's file that
// tells bpftrace, perf and SystemTap where it is and where its arguments are. Kernel: include/trace/events/workqueue.h.
//
//   upci:workqueue_queue_work      work, function, workqueue's name, CPU asked for (-1: any), CPU of the pool (-1: unbound)
//   upci:workqueue_activate_work   work, function
//   upci:workqueue_execute_start   work, function
//   upci:workqueue_execute_end     work (only its address: it may be gone), function
//
// They are there when CMake has found <sys/sdt.h> (`upci version --json` says so), and never in the simulated variant.
#pragma once

#include "workqueue/work_data.h"

#if defined(UPCI_USDT) && !defined(UPCI_SIM)
#include <sys/sdt.h>
#define UPCI_PROBE2(name, a, b) DTRACE_PROBE2(upci, name, a, b)
#define UPCI_PROBE5(name, a, b, c, d, e) DTRACE_PROBE5(upci, name, a, b, c, d, e)
#else
#define UPCI_PROBE2(name, a, b) (void)(a), (void)(b)
#define UPCI_PROBE5(name, a, b, c, d, e) (void)(a), (void)(b), (void)(c), (void)(d), (void)(e)
#endif

namespace upci::inline UPCI_VARIANT::trace {

inline void queue_work(const Work& work, const WorkFunction& function, const char* workqueue, int req_cpu,
                       int cpu) noexcept {
  UPCI_PROBE5(workqueue_queue_work, &work, function.address(), workqueue, req_cpu, cpu);
}
inline void activate_work(const Work& work) noexcept {
  UPCI_PROBE2(workqueue_activate_work, &work, WorkAccess::function(work).address());
}
inline void execute_start(const Work& work, const WorkFunction& function) noexcept {
  UPCI_PROBE2(workqueue_execute_start, &work, function.address());
}
inline void execute_end(const Work* work, const WorkFunction& function) noexcept {
  UPCI_PROBE2(workqueue_execute_end, work, function.address());
}

}  // namespace upci::inline UPCI_VARIANT::trace

#undef UPCI_PROBE2
#undef UPCI_PROBE5
