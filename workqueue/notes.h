// SPDX-License-Identifier: Apache-2.0
// Which notes an engine takes on each queueing and run. Read by all of them, with one predicted branch while it is 0.
#pragma once

#include <cstdint>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

class NoteSwitch {
 public:
  static constexpr std::uint32_t kRequesters = 1;  // the stack of each queueing
  static constexpr std::uint32_t kLatency = 2;     // histograms of queue -> start and of run times
  static constexpr std::uint32_t kTrace = 4;       // events for a trace file

  std::uint32_t bits() const noexcept {
#if defined(UPCI_SIM)
    return bits_;
#else
    return bits_.load(std::memory_order_relaxed);
#endif
  }
#if defined(UPCI_SIM)
  void set(std::uint32_t bit) noexcept { bits_ |= bit; }
  void clear(std::uint32_t bit) noexcept { bits_ &= ~bit; }
#else
  void set(std::uint32_t bit) noexcept { bits_.fetch_or(bit, std::memory_order_release); }
  void clear(std::uint32_t bit) noexcept { bits_.fetch_and(~bit, std::memory_order_release); }
#endif

 private:
  // Nothing follows from when a change is seen. In the simulation, where one OS thread runs all, it is a plain word: a
  // scheduling point at each queueing would only make schedules longer.
#if defined(UPCI_SIM)
  std::uint32_t bits_ = 0;
#else
  platform::Atomic<std::uint32_t> bits_{0};
#endif
};

}  // namespace upci::inline UPCI_VARIANT
