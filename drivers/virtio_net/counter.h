// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// A counter with one writer at a time and any number of readers: a plain addition, where fetch_add would lock the bus.
class Counter {
 public:
  void add(std::uint64_t count = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  platform::Atomic<std::uint64_t> value_{0};
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
