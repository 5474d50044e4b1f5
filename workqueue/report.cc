// SPDX-License-Identifier: Apache-2.0
#include "workqueue/report.h"

#include "base/log.h"
#include "base/stack.h"
#include "workqueue/engine_state.h"
#include "workqueue/requesters.h"

namespace upci::inline UPCI_VARIANT {

std::string_view to_string(Report::Kind kind) noexcept {
  switch (kind) {
    case Report::Kind::kMisuse: return "misuse";
    case Report::Kind::kSelfFlush: return "self-flush";
    case Report::Kind::kFlushDependency: return "flush-dependency";
    case Report::Kind::kDependencyCycle: return "dependency-cycle";
    case Report::Kind::kDrain: return "drain";
    case Report::Kind::kHog: return "hog";
    case Report::Kind::kStall: return "stall";
    case Report::Kind::kLifetime: return "lifetime";
  }
  return "unknown";
}

std::string Report::to_text() const {
  std::string all = text;
  if (caller.depth != 0) all += "\n  called by\n" + format_stack(caller, "    ");
  for (const Evidence& other : evidence) {
    if (all.back() != '\n') all += '\n';
    all += "  " + other.what + "\n" + format_stack(other.stack, "    ");
  }
  return all;
}

void EngineState::emit(const Report& report) const {
  if (options_.report) {
    options_.report(report);
  } else if (log::level() <= log::Level::kWarning) {
    log::warn("workqueue: {}", report.to_text());
  }
}

void EngineState::report(Report::Kind kind, std::string text) const { emit({.kind = kind, .text = std::move(text)}); }

void EngineState::report(const Report& report) const { emit(report); }

void EngineState::report_caller(Report::Kind kind, std::string text) const {
  emit({.kind = kind, .text = std::move(text), .caller = capture_stack(1)});
}

}  // namespace upci::inline UPCI_VARIANT
