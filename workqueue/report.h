// SPDX-License-Identifier: Apache-2.0
// What an engine has to say about its items and callers: misuse, hogs, stalls, deadlocks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/stack.h"

namespace upci::inline UPCI_VARIANT {

struct Report {
  enum class Kind : std::uint8_t {
    kMisuse,           // a null function, a stale queue, a CPU that does not exist, an unmatched enable_work
    kSelfFlush,        // an item waits for itself, or flushes its own queue
    kFlushDependency,  // a queue with a rescuer waits for one without; a system queue is flushed
    kDependencyCycle,  // two waits, seen at any time, that together can deadlock
    kDrain,            // a drain that does not end, or an item refused while draining
    kHog,              // an item that computes for too long
    kStall,            // a pool whose items do not start
    kLifetime,         // a work that was freed or made anew while it was pending or ran
  };
  Kind kind = Kind::kMisuse;
  std::string text = {};   // one block of lines for a person; the first one says it all
  StackTrace caller = {};  // of the call that is reported; empty where no call is to blame
  struct Evidence {
    std::string what = {};  // one line: whose stack it is
    StackTrace stack = {};
  };
  std::vector<Evidence> evidence = {};  // other stacks that belong to it, as kept from earlier

  /// The text, with the caller's stack and the evidence behind it. Takes milliseconds: names are looked up.
  std::string to_text() const;
};

/// "misuse", "self-flush", ...
std::string_view to_string(Report::Kind kind) noexcept;

/// Called by whatever thread finds something, with no lock of the engine held; must not call back into the engine.
using ReportSink = std::function<void(const Report&)>;

}  // namespace upci::inline UPCI_VARIANT
