// SPDX-License-Identifier: Apache-2.0
// Who queued a work, kept when asked for (Engine::Options::keep_requesters), and names for reports.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/stack.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;
struct PoolWorkqueue;

/// The stacks of the latest queueing of each work, by the work's address. Bounded: when it is full it begins anew.
class Requesters {
 public:
  void note(const Work& work) noexcept;
  std::optional<StackTrace> find(const Work* work) const;

 private:
  static constexpr std::size_t kMost = 4096;
  mutable platform::Mutex lock_;
  std::unordered_map<const Work*, StackTrace> stacks_;  // lock_
};

namespace requesters {
/// The stack of whoever queued the work last, when that is kept.
std::optional<StackTrace> find(const EngineState& engine, const Work* work);
}  // namespace requesters

/// The function's name, or its address. Slow: for reports. A method's class is not told by its pointer where it is virtual.
std::string name_function(const WorkFunction& function);
/// The same, by WorkFunction::address().
std::string name_function_at(std::uintptr_t address);
/// One line for each frame, each behind `indent`.
std::string format_stack(const StackTrace& trace, const char* indent);
/// The functions of a pwq's inactive items, the first few. Under the pool's lock.
std::string name_works(PoolWorkqueue& pwq);

}  // namespace upci::inline UPCI_VARIANT
