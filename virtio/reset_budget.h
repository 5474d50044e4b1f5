// SPDX-License-Identifier: Apache-2.0
// How often a device may ask to be reset before nobody believes in it any more.
#pragma once

#include <chrono>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// One thread at a time.
class ResetBudget {
 public:
  static constexpr unsigned kMostInARow = 5;
  /// Resets that follow one another within this are in a row.
  static constexpr platform::Nanoseconds kInARow = std::chrono::seconds(1);

  /// One more reset is needed. False when that is one too many.
  bool spend() noexcept {
    const platform::TimePoint now = platform::Clock::now();
    in_a_row_ = in_a_row_ != 0 && now - last_ < kInARow ? in_a_row_ + 1 : 1;
    last_ = now;
    return in_a_row_ <= kMostInARow;
  }

 private:
  unsigned in_a_row_ = 0;
  platform::TimePoint last_{};
};

}  // namespace upci::inline UPCI_VARIANT::virtio
