// SPDX-License-Identifier: Apache-2.0
// How far the two CPUs of a sample are apart. On a virtual machine that changes: the hypervisor puts them on one core complex or
// on two, and everything that shares memory is several times faster or slower.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/clock.h"
#include "bench/engine/statistics.h"

namespace bench::datapath {

/// The time that a cache line takes from the one CPU to the other, one way: the median of some thousand round trips. Others may run
/// on either CPU meanwhile.
inline double line_nanoseconds(int cpu, int other) {
  constexpr std::uint32_t kTrips = 5000;
  struct alignas(64) Line {
    std::atomic<std::uint32_t> value{0};
  } line;
  std::thread partner([&line, other] {
    pin(other);
    for (std::uint32_t trip = 0; trip < kTrips; trip++) {
      while (line.value.load(std::memory_order_acquire) != 2 * trip + 1) relax();
      line.value.store(2 * trip + 2, std::memory_order_release);
    }
  });
  pin(cpu);  // as the measured thread is already
  std::vector<double> trips;
  for (std::uint32_t trip = 0; trip < kTrips; trip++) {
    const std::uint64_t begin = ticks();
    line.value.store(2 * trip + 1, std::memory_order_release);
    while (line.value.load(std::memory_order_acquire) != 2 * trip + 2) relax();
    trips.push_back(nanoseconds(begin, ticks()));
  }
  partner.join();
  return median(std::move(trips)) / 2;
}

}  // namespace bench::datapath
