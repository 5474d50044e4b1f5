// SPDX-License-Identifier: Apache-2.0
// Threads that take closures out of a queue and call them, and nothing else: no pool, no fairness, no waking of the right one.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/peers/pool.h"

namespace bench {

struct BareClosure {
  Function function = nullptr;
  void* context = nullptr;
};

/// Queue: bool push(BareClosure, token&), std::size_t pop(BareClosure*, std::size_t, token&).
class BareWorkers {
 public:
  /// `pop` returns how many closures it took, 0 when there is none now.
  template <class Pop>
  void start(const std::vector<int>& cpus, Pop pop) {
    for (const int cpu : cpus) {
      threads_.emplace_back([this, cpu, pop] {
        pin(cpu);
        BareClosure closures[kBurst];
        while (!stop_.load(std::memory_order_relaxed)) {
          const std::size_t taken = pop(closures, kBurst);
          for (std::size_t i = 0; i < taken; i++) closures[i].function(closures[i].context);
          if (taken == 0) std::this_thread::yield();
        }
      });
    }
  }
  void stop() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  static constexpr std::size_t kBurst = 32;

 private:
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_{false};
};

}  // namespace bench
