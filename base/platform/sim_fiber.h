// SPDX-License-Identifier: Apache-2.0
// Fibers of the simulation: a stack and a saved place in it. Knows nothing of scheduling.
#pragma once

#include <array>
#include <cstddef>

#include "base/variant.h"

#if defined(__SANITIZE_ADDRESS__)
#define UPCI_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UPCI_ASAN 1
#endif
#endif

namespace upci::inline UPCI_VARIANT::platform::sim::detail {

/// Memory for one fiber's stack, with a guard page below it. Taken from a pool, since mapping is slow.
struct FiberStack {
  void* base = nullptr;  // lowest usable address
  std::size_t size = 0;

  /// Ends the program when there is no memory: nothing can be simulated then.
  static FiberStack take();
  void give_back() noexcept;
  /// The fiber stopped in the middle and will never go on: what its stack points to counts as reachable for ever.
  void abandon() noexcept;
};

/// Where a fiber (or the OS thread that runs the simulation) was when it was switched away from.
class FiberContext {
 public:
  /// The first switch to this context calls `entry` on the stack; entry must not return, and must call arrived() first.
  void prepare(const FiberStack& stack, void (*entry)()) noexcept;
  /// Leaves `from` and goes on in `to`. Returns when somebody switches back to `from`; with `from_ends`, never.
  static void switch_to(FiberContext& from, FiberContext& to, bool from_ends = false) noexcept;
  static void arrived() noexcept;

 private:
  void* stack_pointer_ = nullptr;
  std::array<void*, 2> exceptions_{};  // the C++ runtime's per-thread list of exceptions in flight
#if defined(UPCI_ASAN)
  void* fake_stack_ = nullptr;
  const void* stack_bottom_ = nullptr;
  std::size_t stack_size_ = 0;
  void finish_switch() noexcept;
#endif
#if !defined(__x86_64__)
  std::array<std::byte, 4096> ucontext_{};
#endif
};

}  // namespace upci::inline UPCI_VARIANT::platform::sim::detail
