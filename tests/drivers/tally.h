// SPDX-License-Identifier: Apache-2.0
// Numbered frames that may be lost, but must not come twice.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/platform.h"
#include "drivers/virtio_net/packet.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

/// How often each frame of frame_of() has come. Thread-safe.
class Tally {
 public:
  void take(virtio_net::Packet& packet) {
    std::uint32_t number = 0;
    std::memcpy(&number, packet.data + 14, sizeof(number));
    const std::lock_guard lock(mutex_);
    if (number >= seen_.size()) seen_.resize(number + 1);
    EXPECT_EQ(seen_[number]++, 0) << "frame " << number << " came again";
    count_++;
  }
  std::uint64_t count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  platform::Mutex mutex_;
  std::vector<int> seen_;    // mutex_
  std::uint64_t count_ = 0;  // mutex_
};

}  // namespace upci::inline UPCI_VARIANT::driver_tests
