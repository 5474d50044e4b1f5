// SPDX-License-Identifier: Apache-2.0
// What a simulated run says of itself when it cannot go on.
#include <chrono>
#include <cstdio>
#include <string>

#include "base/platform/sim_scheduler.h"
#include "base/stack.h"

namespace upci::inline UPCI_VARIANT::platform::sim::detail {
namespace {

constexpr std::size_t kFramesShown = 12;

std::string seconds_text(Nanoseconds span) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9f s", std::chrono::duration<double>(span).count());
  return text;
}

std::string frame_text(const StackFrame& frame) {
  std::string text = "      " + (frame.function.empty() ? std::string("?") : frame.function);
  if (frame.line != 0)
    text += " (" + frame.file.substr(frame.file.rfind('/') + 1) + ":" + std::to_string(frame.line) + ")";
  return text + "\n";
}

}  // namespace

std::string Scheduler::where() const {
  return " (seed " + std::to_string(options_.seed) + ", step " + std::to_string(steps_) + ", " +
         seconds_text(now_ - kStart) + " after the start)\n";
}

std::string Scheduler::describe() const {
  std::string text;
  for (const std::unique_ptr<Fiber>& each : fibers_) {
    const Fiber& fiber = *each;
    if (fiber.finished) continue;
    text += "  fiber " + std::to_string(fiber.id) + " '" + fiber.name + "' ";
    char address[32];
    std::snprintf(address, sizeof(address), "%p", fiber.object);
    switch (fiber.waits_for) {
      case WaitKind::kNone: text += &fiber == current_ ? "runs" : "can run"; break;
      case WaitKind::kCompute: text += "computes"; break;
      case WaitKind::kSleep: text += "sleeps"; break;
      case WaitKind::kWord: text += std::string("waits for the word at ") + address; break;
      case WaitKind::kMutex: text += std::string("waits for the mutex at ") + address; break;
      case WaitKind::kQueue: text += std::string("waits for the event queue at ") + address; break;
      case WaitKind::kJoin: {
        const auto* other = static_cast<const Fiber*>(fiber.object);
        text += "waits for the end of fiber " + std::to_string(other->id) + " '" + other->name + "'";
        break;
      }
    }
    if (fiber.waits_for != WaitKind::kNone && fiber.until != kNever) {
      text += ", until " + seconds_text(fiber.until - kStart);
    }
    text += '\n';
  }
  return text;
}

// Called when the run has ended, on the OS thread's own stack.
std::string Scheduler::stacks() {
  std::string text;
  for (const std::unique_ptr<Fiber>& fiber : fibers_) {
    if (fiber->finished || !fiber->started) continue;
    StackTrace trace;
    visit_from(
        outside_, *fiber, [](void* argument) { *static_cast<StackTrace*>(argument) = capture_stack(1); }, &trace);
    text += "    fiber " + std::to_string(fiber->id) + " '" + fiber->name + "' is in\n";
    std::size_t shown = 0;
    for (const StackFrame& frame : symbolize(trace)) {
      // Neither the scheduler's own frames nor the way from the fiber's entry to its body tell anything.
      if (frame.function.find("sim::detail::") != std::string::npos || frame.function.starts_with("std::") ||
          frame.function.starts_with("__invoke")) {
        continue;
      }
      text += frame_text(frame);
      if (++shown == kFramesShown) break;
    }
  }
  return text;
}

}  // namespace upci::inline UPCI_VARIANT::platform::sim::detail
