// SPDX-License-Identifier: Apache-2.0
// The clock of the benchmarks: the time stamp counter where there is one that all CPUs share, else the steady clock.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <chrono>
#endif

namespace bench {

#if defined(__x86_64__)
inline constexpr const char* kClock = "tsc";
/// A point in time, in units of its own; see nanoseconds(). The fence keeps earlier loads from being timed later.
inline std::uint64_t ticks() noexcept {
  _mm_lfence();
  return __rdtsc();
}
inline void relax() noexcept { _mm_pause(); }
#else
inline constexpr const char* kClock = "steady_clock";
inline std::uint64_t ticks() noexcept {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}
inline void relax() noexcept {}
#endif

/// Nanoseconds in a tick. The first call takes 20 ms, to compare the two clocks.
double nanoseconds_per_tick() noexcept;

/// The time between two points in nanoseconds; negative when `to` was before `from`, as clocks of two CPUs may have it.
inline double nanoseconds(std::uint64_t from, std::uint64_t to) noexcept {
  return static_cast<double>(static_cast<std::int64_t>(to - from)) * nanoseconds_per_tick();
}

/// Keeps the CPU busy for that long.
void spin_for(double nanoseconds) noexcept;

}  // namespace bench
