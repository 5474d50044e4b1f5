// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/clock.h"

#include <chrono>

namespace bench {

namespace {

double calibrate() noexcept {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const std::uint64_t first = ticks();
  while (Clock::now() - start < std::chrono::milliseconds(20)) relax();
  const auto elapsed = std::chrono::duration<double, std::nano>(Clock::now() - start).count();
  return elapsed / static_cast<double>(ticks() - first);
}

}  // namespace

double nanoseconds_per_tick() noexcept {
  static const double value = calibrate();
  return value;
}

void spin_for(double duration) noexcept {
  const auto length = static_cast<std::uint64_t>(duration / nanoseconds_per_tick());
  const std::uint64_t start = ticks();
  while (ticks() - start < length) relax();
}

}  // namespace bench
