// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

/// A point in time on the platform's clock by which something must be done. A value; free to copy.
class Deadline {
 public:
  static Deadline never() noexcept { return Deadline(platform::Clock::now(), platform::kNever); }
  static Deadline after(platform::Nanoseconds span) noexcept {
    const platform::TimePoint now = platform::Clock::now();
    // An enormous span must not wrap around into the past.
    return Deadline(now, span >= platform::kNever - now ? platform::kNever : now + span);
  }
  /// An earlier deadline for a part of the work: never later than this one.
  Deadline at_most(platform::Nanoseconds span) const noexcept {
    const Deadline sooner = after(span);
    return sooner.when_ < when_ ? sooner : *this;
  }

  platform::TimePoint when() const noexcept { return when_; }
  platform::TimePoint start() const noexcept { return start_; }
  bool expired() const noexcept { return is_bounded() && platform::Clock::now() >= when_; }
  bool is_bounded() const noexcept { return when_ != platform::kNever; }
  /// Time left, never negative; Nanoseconds::max() when unbounded.
  platform::Nanoseconds remaining() const noexcept {
    if (!is_bounded()) return platform::Nanoseconds::max();
    return std::max(platform::Nanoseconds::zero(), when_ - platform::Clock::now());
  }
  /// From its making to its end; Nanoseconds::max() when unbounded.
  platform::Nanoseconds length() const noexcept { return is_bounded() ? when_ - start_ : platform::Nanoseconds::max(); }

 private:
  Deadline(platform::TimePoint start, platform::TimePoint when) noexcept : start_(start), when_(when) {}
  platform::TimePoint start_;
  platform::TimePoint when_;
};

}  // namespace upci::inline UPCI_VARIANT
