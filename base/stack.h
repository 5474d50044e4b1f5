// SPDX-License-Identifier: Apache-2.0
// Capturing and naming call stacks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

/// Raw return addresses, innermost first. Cheap to take; naming them is not. (The place where a signal interrupted a
/// thread is no return address; one is added to it, so that each entry less one lies in its calling instruction.)
struct StackTrace {
  static constexpr std::size_t kMaxDepth = 48;
  std::array<std::uintptr_t, kMaxDepth> pc{};
  std::size_t depth = 0;
  std::span<const std::uintptr_t> frames() const noexcept { return std::span(pc).first(depth); }
};

/// One named frame. Unknown parts are empty or 0.
struct StackFrame {
  std::string function{};  // demangled
  std::string file{};
  int line = 0;
  std::uintptr_t address = 0;
};

/// The calling thread's stack, without `skip` innermost frames of the caller. Takes microseconds; does not allocate.
StackTrace capture_stack(std::size_t skip = 0) noexcept;

/// The live stack of another thread of this process: interrupts it by a real-time signal (the first that the program
/// leaves at its default) and lets it unwind itself. Any thread; many at once. Waits 10 s at most, whatever the deadline.
/// Errors: kTimeout when it did not answer by the deadline (a core that sits in a device access cannot answer); kSystem
/// when there is no such thread.
Result<StackTrace> capture_stack_of(platform::ThreadId thread, Deadline deadline);

/// Names the frames from the running program's symbol and line tables (elfutils). Slow: milliseconds. Inlined calls
/// appear as frames of their own where line tables tell. The trace may be one of another process that still exists: its
/// `pid`, 0 for this one. Thread-safe.
std::vector<StackFrame> symbolize(const StackTrace& trace, int pid = 0);

}  // namespace upci::inline UPCI_VARIANT
