// SPDX-License-Identifier: Apache-2.0
#include "base/stack.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/wait.h"

namespace upci {

// Not in an unnamed namespace: their names are looked for.
[[gnu::noinline]] StackTrace stack_test_innermost() {
  StackTrace trace = capture_stack();
  asm volatile("" : : "r"(&trace) : "memory");  // no tail call
  return trace;
}
[[gnu::noinline]] StackTrace stack_test_outer() {
  StackTrace trace = stack_test_innermost();
  asm volatile("" : : "r"(&trace) : "memory");
  return trace;
}
[[gnu::noinline]] void stack_test_sleeper(Completion& wake) {
  wake.wait();
  asm volatile("" : : : "memory");
}

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The index of the first frame whose function's name has this in it, or -1.
int find(const std::vector<StackFrame>& frames, const std::string& name) {
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (frames[i].function.find(name) != std::string::npos) return static_cast<int>(i);
  }
  return -1;
}

TEST(CaptureStack, NamesTheCallerFirstAndThenItsCaller) {
  const std::vector<StackFrame> frames = symbolize(stack_test_outer());
  const int inner = find(frames, "stack_test_innermost");
  const int outer = find(frames, "stack_test_outer");
  EXPECT_EQ(inner, 0);
  EXPECT_EQ(outer, 1);
  ASSERT_GE(outer, 0);
  EXPECT_NE(frames[static_cast<std::size_t>(outer)].file.find("stack_test.cc"), std::string::npos);
  EXPECT_GT(frames[static_cast<std::size_t>(outer)].line, 0);
  EXPECT_EQ(frames[0].function.find("_Z"), std::string::npos) << "demangled";
}

TEST(CaptureStack, SkipsFrames) {
  const auto skipping = [] { return capture_stack(1); };
  EXPECT_EQ(skipping().depth + 1, [] { return capture_stack(0); }().depth);
}

[[gnu::noinline]] StackTrace deep(int levels) {
  StackTrace trace = levels == 0 ? capture_stack() : deep(levels - 1);
  asm volatile("" : : "r"(&trace) : "memory");
  return trace;
}

TEST(CaptureStack, ADeepStackKeepsItsInnermostFrames) {
  const StackTrace trace = deep(200);
  EXPECT_EQ(trace.depth, StackTrace::kMaxDepth);
  EXPECT_EQ(find(symbolize(trace), "deep"), 0);
}

TEST(Symbolize, AnUnknownAddressIsAFrameWithoutAName) {
  StackTrace trace;
  trace.pc[0] = 1;
  trace.depth = 1;
  const std::vector<StackFrame> frames = symbolize(trace);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].function, "");
  EXPECT_EQ(frames[0].address, 1u);
}

TEST(CaptureStackOf, NamesTheFunctionInWhichAnotherThreadWaits) {
  Completion wake;
  Completion started;
  platform::Thread thread = platform::Thread::create({.name = "sleeper"}, [&] {
                              started.complete();
                              stack_test_sleeper(wake);
                            }).value();
  ASSERT_TRUE(started.wait(Deadline::after(seconds(20))));
  // It has begun, but may not yet be where it will wait.
  const Deadline patience = Deadline::after(seconds(20));
  int waiting = -1;
  std::vector<StackFrame> frames;
  do {
    const Result<StackTrace> trace = capture_stack_of(thread.id(), patience);
    ASSERT_TRUE(trace) << trace.error().message();
    frames = symbolize(*trace);
    waiting = find(frames, "stack_test_sleeper");
  } while (waiting < 0 && !patience.expired());
  wake.complete();
  thread.join();
  ASSERT_GE(waiting, 0);
  EXPECT_GE(find(frames, "Completion"), 0);
  EXPECT_LT(find(frames, "Completion"), waiting);
  EXPECT_EQ(find(frames, "answer"), -1) << "the signal handler's own frames are dropped";
}

TEST(CaptureStackOf, TheCallerItself) {
  const Result<StackTrace> trace = capture_stack_of(platform::this_thread::id(), Deadline::after(seconds(20)));
  ASSERT_TRUE(trace);
  EXPECT_GE(find(symbolize(*trace), "TestBody"), 0);
}

TEST(CaptureStackOf, AThreadThatIsNotThereIsAnError) {
  platform::Thread thread = platform::Thread::create({}, [] {}).value();
  const platform::ThreadId id = thread.id();
  thread.join();
  const Result<StackTrace> trace = capture_stack_of(id, Deadline::after(seconds(20)));
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().sys_errno, ESRCH);
}

TEST(CaptureStackOf, ALateAnswerIsHarmlessAndTheNextQuestionIsAnswered) {
  Completion blocked;
  Completion unblock;
  Completion unblocked;
  Completion finish;
  platform::Thread thread = platform::Thread::create({}, [&] {
                              sigset_t all;
                              sigset_t before;
                              sigfillset(&all);
                              ::sigprocmask(SIG_BLOCK, &all, &before);
                              blocked.complete();
                              unblock.wait();
                              ::sigprocmask(SIG_SETMASK, &before, nullptr);  // the late answers come here
                              unblocked.complete();
                              finish.wait();
                            }).value();
  ASSERT_TRUE(blocked.wait(Deadline::after(seconds(20))));
  for (int i = 0; i < 40; ++i) {  // more than there are slots
    const Deadline deadline = Deadline::after(std::chrono::microseconds(100));
    const Result<StackTrace> trace = capture_stack_of(thread.id(), deadline);
    ASSERT_FALSE(trace);
    EXPECT_EQ(trace.error().code, Errc::kTimeout);
    EXPECT_TRUE(deadline.expired());
  }
  unblock.complete();
  ASSERT_TRUE(unblocked.wait(Deadline::after(seconds(20))));
  EXPECT_TRUE(capture_stack_of(thread.id(), Deadline::after(seconds(20))));
  finish.complete();
  thread.join();
}

TEST(CaptureStackOf, ManyAskersAtOnceEachGetTheRightThread) {
  Completion wake;
  platform::Thread sleeper = platform::Thread::create({}, [&] { stack_test_sleeper(wake); }).value();
  platform::Atomic<bool> stop{false};
  platform::Thread busy = platform::Thread::create({}, [&] {
                            while (!stop.load()) platform::relax();
                          }).value();
  platform::Atomic<int> failures{0};
  std::vector<platform::Thread> askers;
  for (int i = 0; i < 4; ++i) {
    askers.push_back(platform::Thread::create({}, [&, i] {
                       for (int round = 0; round < 200; ++round) {
                         const bool first = (round + i) % 2 == 0;
                         const Result<StackTrace> trace =
                             capture_stack_of(first ? sleeper.id() : busy.id(), Deadline::after(seconds(20)));
                         if (!trace || trace->depth == 0) failures.fetch_add(1);
                       }
                     }).value());
  }
  for (platform::Thread& asker : askers) asker.join();
  stop.store(true);
  wake.complete();
  busy.join();
  sleeper.join();
  EXPECT_EQ(failures.load(), 0);
}

}  // namespace
}  // namespace upci
