// SPDX-License-Identifier: Apache-2.0
#include "base/stack.h"

#include <unwind.h>

#include <cerrno>

#if !defined(UPCI_SIM)
#include "base/stack_signal.h"
#endif

namespace upci::inline UPCI_VARIANT {
namespace {

struct Walk {
  StackTrace trace;
  std::size_t skip = 0;
};

_Unwind_Reason_Code take_frame(_Unwind_Context* context, void* argument) {
  auto& walk = *static_cast<Walk*>(argument);
  int exact = 0;
  const std::uintptr_t pc = _Unwind_GetIPInfo(context, &exact);
  if (pc == 0) return _URC_END_OF_STACK;
  if (walk.skip > 0) {
    --walk.skip;
    return _URC_NO_REASON;
  }
  if (walk.trace.depth == StackTrace::kMaxDepth) return _URC_END_OF_STACK;
  walk.trace.pc[walk.trace.depth++] = pc + (exact != 0 ? 1 : 0);
  return _URC_NO_REASON;
}

}  // namespace

[[gnu::noinline]] StackTrace capture_stack(std::size_t skip) noexcept {
  // libgcc's unwinder takes no lock and allocates nothing where the C library has _dl_find_object (glibc 2.35), so this
  // may be called by a signal handler. Its first frame is this function.
  Walk walk{.trace = {}, .skip = skip + 1};
  _Unwind_Backtrace(take_frame, &walk);
  return walk.trace;
}

#if defined(UPCI_SIM)
Result<StackTrace> capture_stack_of(platform::ThreadId thread, Deadline) {
  StackTrace trace;
  // The fiber captures its own stack, where it was switched away from.
  const auto capture = [](void* argument) { *static_cast<StackTrace*>(argument) = capture_stack(1); };
  if (!platform::sim::run_on_fiber(thread, capture, &trace)) {
    return fail_errno("cannot take the stack of thread " + std::to_string(thread), {}, ESRCH);
  }
  return trace;
}
#else
Result<StackTrace> capture_stack_of(platform::ThreadId thread, Deadline deadline) {
  if (thread == platform::this_thread::id()) return capture_stack();
  return detail::capture_by_signal(thread, deadline.at_most(std::chrono::seconds(10)));
}
#endif

}  // namespace upci::inline UPCI_VARIANT
