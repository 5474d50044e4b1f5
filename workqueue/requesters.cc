// SPDX-License-Identifier: Apache-2.0
#include "workqueue/requesters.h"

#include <fmt/format.h>

#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

void Requesters::note(const Work& work) noexcept {
  const StackTrace stack = capture_stack(1);
  std::lock_guard guard(lock_);
  if (stacks_.size() >= kMost && !stacks_.contains(&work)) stacks_.clear();
  stacks_[&work] = stack;
}

std::optional<StackTrace> Requesters::find(const Work* work) const {
  std::lock_guard guard(lock_);
  const auto found = stacks_.find(work);
  if (found == stacks_.end()) return std::nullopt;
  return found->second;
}

std::optional<StackTrace> requesters::find(const EngineState& engine, const Work* work) {
  return engine.options().keep_requesters ? engine.requesters().find(work) : std::nullopt;
}

namespace {

std::string look_up(std::uintptr_t address) {
  StackTrace one;
  // A frame is a return address: one more than an address inside of the function.
  one.pc[0] = address + 1;
  one.depth = 1;
  const auto frames = symbolize(one);
  if (!frames.empty() && !frames.front().function.empty()) return frames.front().function;
  return fmt::format("{:#x}", address);
}

}  // namespace

std::string name_function(const WorkFunction& function) { return name_function_at(function.address()); }

std::string name_function_at(std::uintptr_t address) {
  // Looking a name up takes milliseconds, and it is always the same.
  static platform::Mutex lock;
  static std::unordered_map<std::uintptr_t, std::string> names;
  {
    std::lock_guard guard(lock);
    if (const auto known = names.find(address); known != names.end()) return known->second;
  }
  std::string name = look_up(address);
  std::lock_guard guard(lock);
  if (names.size() >= 4096) names.clear();
  return names[address] = std::move(name);
}

std::string format_stack(const StackTrace& trace, const char* indent) {
  std::string text;
  for (const StackFrame& frame : symbolize(trace)) {
    text += fmt::format("{}{}", indent, frame.function.empty() ? fmt::format("{:#x}", frame.address) : frame.function);
    if (!frame.file.empty()) text += fmt::format(" ({}:{})", frame.file, frame.line);
    text += '\n';
  }
  return text;
}

std::string name_works(PoolWorkqueue& pwq) {
  constexpr int kFew = 4;
  std::string text;
  int count = 0;
  for (WorkNode* at = pwq.inactive.begin(); at != pwq.inactive.end() && count < kFew; at = at->next, count++) {
    text += (count == 0 ? "" : ", ") + name_function(WorkAccess::function(WorkAccess::from_node(*at)));
  }
  return count == kFew ? text + ", ..." : text;
}

}  // namespace upci::inline UPCI_VARIANT
