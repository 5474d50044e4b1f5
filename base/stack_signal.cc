// SPDX-License-Identifier: Apache-2.0
// The asker claims one of a few slots that live for ever, and sends a signal that names the slot and the slot's current
// use. The handler writes into the slot only if that use still asks: an answer that comes too late finds another number
// and does nothing. If the asker gives up while the handler is writing, the handler frees the slot.
#include "base/stack_signal.h"

#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <tuple>
#include <utility>

namespace upci::inline UPCI_VARIANT::detail {
namespace {

// Slot::state is the number of the use, shifted by kPhaseBits, and one of these.
enum Phase : std::uint32_t { kFree, kClaimed, kAsked, kWriting, kDone, kGivenUp };
constexpr std::uint32_t kPhaseBits = 3;
constexpr std::uint32_t kUseMask = (std::uint32_t{1} << (32 - kPhaseBits)) - 1;

constexpr std::uint32_t make_state(std::uint32_t use, Phase phase) {
  return ((use & kUseMask) << kPhaseBits) | static_cast<std::uint32_t>(phase);
}

struct Slot {
  platform::Atomic<std::uint32_t> state{make_state(0, kFree)};
  StackTrace trace;  // the handler's from kWriting to kDone, the asker's from kDone to kFree
};

constexpr std::size_t kSlots = 16;
constinit std::array<Slot, kSlots> slots;

std::uintptr_t interrupted_pc(const void* context) noexcept {
#if defined(__x86_64__)
  return static_cast<std::uintptr_t>(static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return static_cast<std::uintptr_t>(static_cast<const ucontext_t*>(context)->uc_mcontext.pc);
#else
  return 0;
#endif
}

// Drops the handler's own frames: those above the place that was interrupted.
void drop_handler_frames(StackTrace& trace, std::uintptr_t pc) noexcept {
  for (std::size_t i = 0; i < trace.depth; ++i) {
    if (trace.pc[i] != pc && trace.pc[i] != pc + 1) continue;
    std::memmove(trace.pc.data(), trace.pc.data() + i, (trace.depth - i) * sizeof(trace.pc[0]));
    trace.depth -= i;
    return;
  }
}

void answer(int, siginfo_t* info, void* context) {
  if (info->si_code != SI_QUEUE || info->si_pid != ::getpid()) return;
  const int saved_errno = errno;
  const auto value = reinterpret_cast<std::uintptr_t>(info->si_value.sival_ptr);
  const auto use = static_cast<std::uint32_t>(value / kSlots);
  Slot& slot = slots[value % kSlots];
  std::uint32_t state = make_state(use, kAsked);
  if (slot.state.compare_exchange_strong(state, make_state(use, kWriting), std::memory_order_acquire)) {
    slot.trace = capture_stack(1);
    drop_handler_frames(slot.trace, interrupted_pc(context));
    state = make_state(use, kWriting);
    // Release pairs with the asker's acquire of kDone, and with claim()'s of kFree.
    if (slot.state.compare_exchange_strong(state, make_state(use, kDone), std::memory_order_release)) {
      platform::wake_word(&slot.state, INT_MAX);
    } else {
      slot.state.store(make_state(use, kFree), std::memory_order_release);
    }
  }
  errno = saved_errno;
}

// How often an asker makes sure that the thread is still there.
constexpr platform::Nanoseconds kLookAgain = std::chrono::milliseconds(10);

// The signal's number, or 0 when the program has taken all real-time signals for itself.
int install_handler() noexcept {
  (void)capture_stack();  // what the unwinder does once, it does here and not in the handler
  for (int signal = SIGRTMIN + 2; signal <= SIGRTMAX; ++signal) {
    struct sigaction old{};
    if (::sigaction(signal, nullptr, &old) != 0) continue;
    if ((old.sa_flags & SA_SIGINFO) != 0 || old.sa_handler != SIG_DFL) continue;
    struct sigaction action{};
    action.sa_sigaction = answer;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
#if !defined(UPCI_TSAN)
    // ThreadSanitizer holds a signal back until the thread's next call into it, so there a futex wait must end early.
    action.sa_flags |= SA_RESTART;
#endif
    if (::sigaction(signal, &action, nullptr) == 0) return signal;
  }
  return 0;
}

// A free slot and the number of its new use.
std::pair<Slot*, std::uint32_t> claim() noexcept {
  for (Slot& slot : slots) {
    std::uint32_t state = slot.state.load(std::memory_order_relaxed);
    if ((state & ((1U << kPhaseBits) - 1)) != kFree) continue;
    const std::uint32_t use = ((state >> kPhaseBits) + 1) & kUseMask;
    if (slot.state.compare_exchange_strong(state, make_state(use, kClaimed), std::memory_order_acquire)) {
      return {&slot, use};
    }
  }
  return {nullptr, 0};
}

// Returns 0 or an errno.
int send(platform::ThreadId thread, int signal, std::uintptr_t value) noexcept {
  siginfo_t info{};
  info.si_signo = signal;
  info.si_code = SI_QUEUE;
  info.si_pid = ::getpid();
  info.si_uid = ::getuid();
  info.si_value.sival_ptr = reinterpret_cast<void*>(value);
  return ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), thread, signal, &info) == 0 ? 0 : errno;
}

std::unexpected<Error> no_answer(platform::ThreadId thread) {
  return fail(Errc::kTimeout, "thread " + std::to_string(thread) + " did not give its stack in time",
              "it may sit in a device access that does not return");
}

}  // namespace

Result<StackTrace> capture_by_signal(platform::ThreadId thread, Deadline deadline) {
  static const int signal = install_handler();
  if (signal == 0) return fail(Errc::kState, "no real-time signal is free to ask threads for their stacks");
  auto [slot, use] = claim();
  while (slot == nullptr) {
    if (deadline.expired()) return no_answer(thread);
    platform::this_thread::sleep_until(deadline.at_most(std::chrono::milliseconds(1)).when());
    std::tie(slot, use) = claim();
  }
  slot->state.store(make_state(use, kAsked), std::memory_order_release);

  const auto index = static_cast<std::uintptr_t>(slot - slots.data());
  const std::uintptr_t value = static_cast<std::uintptr_t>(use) * kSlots + index;
  if (const int error = send(thread, signal, value); error != 0) {
    slot->state.store(make_state(use, kFree), std::memory_order_release);
    return fail_errno("cannot take the stack of thread " + std::to_string(thread), {}, error);
  }

  for (;;) {
    std::uint32_t state = slot->state.load(std::memory_order_acquire);
    if (state == make_state(use, kDone)) {
      StackTrace trace = slot->trace;
      slot->state.store(make_state(use, kFree), std::memory_order_release);
      return trace;
    }
    bool ended = false;
    if (!deadline.expired()) {
      if (platform::wait_word(slot->state, state, deadline.at_most(kLookAgain).when())) continue;
#if defined(UPCI_TSAN)
      // ThreadSanitizer may have taken the signal just before the thread began to sleep: another one ends the sleep.
      const int error = send(thread, signal, value);
#else
      const int error = ::syscall(SYS_tgkill, ::getpid(), thread, 0) == 0 ? 0 : errno;
#endif
      // A thread that was ending when it was asked takes its signals along.
      ended = error == ESRCH;
      if (!ended) continue;
    }
    // Give up: before the handler has begun the slot is free at once, otherwise the handler frees it.
    const Phase next = state == make_state(use, kAsked) ? kFree : kGivenUp;
    if (slot->state.compare_exchange_strong(state, make_state(use, next), std::memory_order_acq_rel)) {
      if (ended) return fail_errno("cannot take the stack of thread " + std::to_string(thread), {}, ESRCH);
      return no_answer(thread);
    }
  }
}

}  // namespace upci::inline UPCI_VARIANT::detail
