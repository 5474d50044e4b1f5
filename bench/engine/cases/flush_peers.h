// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

#include "bench/engine/case.h"
#include "bench/engine/clock.h"

namespace bench {

/// Items that hold their workers until all are let go at once. They spin: waking them is not part of the measurement.
class Holding {
 public:
  explicit Holding(std::size_t workers) : workers_(workers) {}
  static void hold(void* context) {
    auto& self = *static_cast<Holding*>(context);
    self.held_.fetch_add(1);
    while (!self.released_.load(std::memory_order_acquire)) relax();
  }
  void wait_until_all_are_held() const {
    while (held_.load() < workers_) relax();
  }
  void release() { released_.store(true, std::memory_order_release); }

 private:
  const std::size_t workers_;
  std::atomic<std::size_t> held_{0};
  std::atomic<bool> released_{false};
};

/// The peers' own ways of waiting for all that was submitted.
std::vector<Contestant> flush_peers(std::size_t items);

}  // namespace bench
