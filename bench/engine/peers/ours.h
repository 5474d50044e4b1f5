// SPDX-License-Identifier: Apache-2.0
// The engine as a pool among pools, and what the cases need of it beyond that.
#pragma once

#include <chrono>
#include <memory>

#include "bench/engine/peers/pool.h"
#include "workqueue/engine.h"

namespace bench {

/// An engine on this machine's topology. Ends the program when there can be none.
std::unique_ptr<upci::Engine> make_engine(std::chrono::nanoseconds spin = {});

upci::WorkqueuePtr make_queue(upci::Engine& engine, upci::WqFlags flags);

/// A work that calls a closure of this program.
class ClosureWork : public upci::Work {
 public:
  ClosureWork() noexcept : upci::Work(&call) {}
  Function function = nullptr;
  void* context = nullptr;

 private:
  static void call(upci::Work& work) {
    auto& self = static_cast<ClosureWork&>(work);
    self.function(self.context);
  }
};

/// Says it and ends the program: a work that could not be queued makes the figure worthless.
[[noreturn]] void refused(const char* what);

}  // namespace bench
