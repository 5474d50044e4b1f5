// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "base/variant.h"
#include "workqueue/attributes.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;

/// A domain of works that run alike and can be flushed, drained, frozen and limited together. Made by
/// Engine::alloc_workqueue. It has no threads of its own (but a rescuer, with kWqMemReclaim): what it is given runs in the
/// worker pools of its engine. Kernel: struct workqueue_struct.
class Workqueue {
 public:
  Workqueue(const Workqueue&) = delete;
  Workqueue& operator=(const Workqueue&) = delete;

  /// Its place in the engine; a queued work carries it.
  int number() const noexcept { return number_; }
  const std::string& name() const noexcept { return name_; }
  WqFlags flags() const noexcept { return flags_; }
  bool is_ordered() const noexcept { return ordered_; }

 protected:
  explicit Workqueue(int number) noexcept : number_(number) {}
  ~Workqueue() = default;

  const int number_;
  std::string name_;      // const while it is allocated
  WqFlags flags_ = 0;     // the same
  bool ordered_ = false;  // the same
};

/// Drains the queue and gives it back. Kernel: destroy_workqueue.
struct WorkqueueDeleter {
  std::shared_ptr<EngineState> engine = {};
  void operator()(Workqueue* queue) const noexcept;
};

/// Owns a workqueue. May outlive its engine; then the queue is already gone and this does nothing.
using WorkqueuePtr = std::unique_ptr<Workqueue, WorkqueueDeleter>;

}  // namespace upci::inline UPCI_VARIANT
