// SPDX-License-Identifier: Apache-2.0
// What the machine and the kernel allow at best, measured in the same run as what is compared with it.
#pragma once

#include "bench/engine/case.h"

namespace bench {

/// A thread in FUTEX_WAIT on the worker's CPU is woken from the submitter's, every `gap` ns. Value: wake -> it runs, ns.
Sample futex_wake_floor(int rounds, double gap);
/// There and back: both sides sleep in FUTEX_WAIT, on the two CPUs. Value: the round trip, ns.
Sample futex_round_trip_floor(int rounds);
/// A line that two CPUs write in turn. Value: one way, ns.
Sample cache_line_floor();
/// A thread on the worker's CPU writes an eventfd and then sleeps; another one on the same CPU waits in read. Value:
/// before the write -> the other one runs, ns.
Sample same_cpu_eventfd_floor(int rounds);

/// Two rte_rings, one each way, polled. Only where DPDK was found. Value: the round trip, ns.
Sample rte_ring_round_trip_floor(int rounds);

}  // namespace bench
