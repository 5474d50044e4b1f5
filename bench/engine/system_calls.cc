// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/system_calls.h"

#include <signal.h>
#include <sys/prctl.h>
#include <ucontext.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

namespace bench {

namespace {

constexpr char kAllow = 0;
constexpr char kBlock = 1;

// The kernel reads it at each system call of the thread.
thread_local volatile char selector = kAllow;
thread_local volatile bool called = false;

#if defined(__x86_64__)
void on_system_call(int, siginfo_t*, void* context) {
  called = true;
  selector = kAllow;
  // The registers are as they were at the instruction; back to it (it has two bytes), so that the call is made after all.
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] -= 2;
}

bool enable_for_thread() {
  static const bool handler = [] {
    struct sigaction action = {};
    action.sa_sigaction = &on_system_call;
    action.sa_flags = SA_SIGINFO;
    return ::sigaction(SIGSYS, &action, nullptr) == 0;
  }();
  return handler && ::prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector) == 0;
}
#else
bool enable_for_thread() { return false; }
#endif

bool enabled() {
  thread_local const bool done = enable_for_thread();
  return done;
}

}  // namespace

bool SystemCallWatch::available() { return enabled(); }

SystemCallWatch::SystemCallWatch() {
  if (!enabled()) return;
  called = false;
  selector = kBlock;
}

SystemCallWatch::~SystemCallWatch() { selector = kAllow; }

bool SystemCallWatch::seen() const noexcept { return called; }

}  // namespace bench
