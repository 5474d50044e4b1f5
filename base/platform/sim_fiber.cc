// SPDX-License-Identifier: Apache-2.0
#include "base/platform/sim_fiber.h"

#include <cxxabi.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#if defined(UPCI_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace upci::inline UPCI_VARIANT::platform::sim::detail {
namespace {

#if defined(UPCI_ASAN) || !defined(__OPTIMIZE__)
constexpr std::size_t kStackSize = 1024 * 1024;  // frames are several times as large
#else
constexpr std::size_t kStackSize = 256 * 1024;
#endif

std::vector<FiberStack>& pool() {
  static auto* const stacks = new std::vector<FiberStack>;
  return *stacks;
}

}  // namespace

FiberStack FiberStack::take() {
  if (std::vector<FiberStack>& stacks = pool(); !stacks.empty()) {
    const FiberStack stack = stacks.back();
    stacks.pop_back();
    return stack;
  }
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* mapping = ::mmap(nullptr, kStackSize + page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED || ::mprotect(mapping, page, PROT_NONE) != 0) {
    std::fputs("upci simulation: no memory for the stack of a fiber\n", stderr);
    std::abort();
  }
  return FiberStack{.base = static_cast<std::byte*>(mapping) + page, .size = kStackSize};
}

void FiberStack::give_back() noexcept {
  if (base == nullptr) return;
#if defined(UPCI_ASAN)
  __asan_unpoison_memory_region(base, size);  // the last frames never returned, and left their red zones
#endif
  pool().push_back(*this);
  base = nullptr;
}

void FiberStack::abandon() noexcept {
#if defined(UPCI_ASAN)
  if (base != nullptr) __lsan_register_root_region(base, size);
#endif
  base = nullptr;
}

namespace {

FiberContext*& leaving() noexcept {
  static FiberContext* context = nullptr;
  return context;
}

void save_exceptions(std::array<void*, 2>& kept) noexcept {
  // caughtExceptions and uncaughtExceptions (Itanium C++ ABI, 2.2.2).
  std::memcpy(kept.data(), static_cast<const void*>(abi::__cxa_get_globals()), sizeof(kept));
}
void load_exceptions(const std::array<void*, 2>& kept) noexcept {
  std::memcpy(static_cast<void*>(abi::__cxa_get_globals()), kept.data(), sizeof(kept));
}

}  // namespace

#if defined(__x86_64__)
// Saves the callee-saved registers on the old stack, exchanges the stack pointers, and restores them from the new one:
// a few nanoseconds, where swapcontext() makes two system calls.
extern "C" void upci_sim_switch_stack(void** save, void* load) noexcept;
asm(R"(
.text
.globl upci_sim_switch_stack
.hidden upci_sim_switch_stack
.type upci_sim_switch_stack, @function
upci_sim_switch_stack:
  .cfi_startproc
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .cfi_endproc
.size upci_sim_switch_stack, . - upci_sim_switch_stack
)");

void FiberContext::prepare(const FiberStack& stack, void (*entry)()) noexcept {
  auto* top = reinterpret_cast<void**>(static_cast<std::byte*>(stack.base) + stack.size);
  *--top = nullptr;
  *--top = nullptr;
  *--top = nullptr;  // entry's return address: unwinders stop here; the stack is then aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int reg = 0; reg < 6; ++reg) *--top = nullptr;
  stack_pointer_ = top;
  exceptions_ = {};
#if defined(UPCI_ASAN)
  fake_stack_ = nullptr;
  stack_bottom_ = stack.base;
  stack_size_ = stack.size;
#endif
}
#else
void FiberContext::prepare(const FiberStack& stack, void (*entry)()) noexcept {
  static_assert(sizeof(ucontext_t) + alignof(ucontext_t) <= sizeof(ucontext_));
  void* place = ucontext_.data();
  std::size_t room = sizeof(ucontext_);
  auto* context = static_cast<ucontext_t*>(std::align(alignof(ucontext_t), sizeof(ucontext_t), place, room));
  stack_pointer_ = context;
  ::getcontext(context);
  context->uc_stack.ss_sp = stack.base;
  context->uc_stack.ss_size = stack.size;
  context->uc_link = nullptr;
  ::makecontext(context, entry, 0);
  exceptions_ = {};
#if defined(UPCI_ASAN)
  fake_stack_ = nullptr;
  stack_bottom_ = stack.base;
  stack_size_ = stack.size;
#endif
}
#endif

#if defined(UPCI_ASAN)
void FiberContext::finish_switch() noexcept {
  // Tells where the stack that was left lies; that is how the OS thread's own becomes known.
  FiberContext* const left = leaving();
  __sanitizer_finish_switch_fiber(fake_stack_, &left->stack_bottom_, &left->stack_size_);
}
#endif

void FiberContext::switch_to(FiberContext& from, FiberContext& to, [[maybe_unused]] bool from_ends) noexcept {
  leaving() = &from;
  save_exceptions(from.exceptions_);
  load_exceptions(to.exceptions_);
#if defined(UPCI_ASAN)
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.fake_stack_, to.stack_bottom_, to.stack_size_);
#endif
#if defined(__x86_64__)
  upci_sim_switch_stack(&from.stack_pointer_, to.stack_pointer_);
#else
  if (from.stack_pointer_ == nullptr) {
    void* place = from.ucontext_.data();
    std::size_t room = sizeof(from.ucontext_);
    from.stack_pointer_ = std::align(alignof(ucontext_t), sizeof(ucontext_t), place, room);
  }
  ::swapcontext(static_cast<ucontext_t*>(from.stack_pointer_), static_cast<ucontext_t*>(to.stack_pointer_));
#endif
#if defined(UPCI_ASAN)
  from.finish_switch();
#endif
}

void FiberContext::arrived() noexcept {
#if defined(UPCI_ASAN)
  FiberContext* const left = leaving();
  __sanitizer_finish_switch_fiber(nullptr, &left->stack_bottom_, &left->stack_size_);
#endif
}

}  // namespace upci::inline UPCI_VARIANT::platform::sim::detail
