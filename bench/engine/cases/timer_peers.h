// SPDX-License-Identifier: Apache-2.0
// What the cases of timers share, and the peers' timers.
#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "bench/engine/case.h"
#include "bench/engine/futex.h"

namespace bench {

/// Timers that are armed once: when each was due and when its function started.
struct TimerErrors {
  using Clock = std::chrono::steady_clock;
  static constexpr int kTimers = 200;
  struct Expiry {
    Clock::time_point due;
    Clock::time_point started;
  };

  TimerErrors() : expiries(kTimers) { gate.expect(kTimers); }
  void expired(std::size_t number, Clock::time_point now) {
    expiries[number].started = now;
    gate.done();
  }
  Sample sample(const Usage& usage) const;
  static std::vector<std::chrono::nanoseconds> delays();

  std::vector<Expiry> expiries;
  Gate gate;
};

/// asio's and libuv's timers, each served by one thread on the worker's CPU.
std::vector<Contestant> timer_error_peers();
/// The cost of arming and cancelling with that many timers armed; value: ns for both together.
std::vector<Contestant> armed_timer_peers(std::size_t armed);
Case armed_timers_case();

/// Delays of timers that never come due, 1000 to 2000 s, from a generator with a fixed seed.
class FarDelays {
 public:
  std::chrono::nanoseconds next() noexcept {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return std::chrono::nanoseconds(1'000'000'000'000LL +
                                    static_cast<long long>((state_ >> 24) % 1'000'000'000'000ULL));
  }
  std::size_t below(std::size_t count) noexcept { return static_cast<std::size_t>(next().count()) % count; }

 private:
  std::uint64_t state_ = 42;
};

inline constexpr int kTimerOperations = 20'000;

}  // namespace bench
