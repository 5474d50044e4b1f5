// SPDX-License-Identifier: Apache-2.0
// The flight recorder between a writer and readers in other threads and processes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "base/flight_recorder.h"
#include "base/platform.h"

namespace upci {
namespace {

TEST(FlightRecorder, WhatAKilledProcessRecordedIsStillThere) {
  FlightRecorder recorder = FlightRecorder::create().value();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    recorder.enter_step("reset");
    recorder.begin_access("device_status", false);
    recorder.end_access(0xf);
    recorder.begin_access("device_status", true, 0);
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(recorder.step(), "reset");
  ASSERT_EQ(recorder.timeline("device_status").size(), 1u);
  EXPECT_EQ(recorder.timeline("device_status")[0].value, 0xfu);
  ASSERT_TRUE(recorder.pending());
  EXPECT_TRUE(recorder.pending()->write);
}

// The writer writes entries whose value says what all the rest must be; a reader must never see a mixed one.
TEST(FlightRecorder, AConcurrentReaderSeesWholeEntriesOnly) {
  FlightRecorder recorder = FlightRecorder::create().value();
  platform::Atomic<bool> stop{false};
  platform::Thread writer = platform::Thread::create({}, [&] {
                              std::uint64_t value = 0;
                              while (!stop.load()) {
                                const bool even = ++value % 2 == 0;
                                recorder.begin_access(even ? "even" : "odd", false);
                                recorder.end_access(value);
                                StackTrace trace;
                                trace.depth = 1 + value % 40;
                                trace.pc.fill(value);
                                recorder.keep_stack(trace);
                                recorder.begin_access(even ? "even" : "odd", true, value);
                                recorder.end_access(0);
                              }
                            }).value();
  const auto end = platform::Clock::now() + std::chrono::milliseconds(300);
  std::uint64_t seen = 0;
  while (platform::Clock::now() < end || seen == 0) {
    std::uint64_t last = 0;
    for (const TimelineEntry& entry : recorder.timeline("even")) {
      ASSERT_EQ(entry.value % 2, 0u);
      ASSERT_EQ(entry.count, 1u);
      ASSERT_GT(entry.value, last);
      last = entry.value;
      ++seen;
    }
    const StackTrace trace = recorder.stack();
    for (const std::uintptr_t pc : trace.frames()) {
      ASSERT_EQ(pc, trace.pc[0]);
      ASSERT_EQ(trace.depth, 1 + pc % 40);
    }
    if (const auto pending = recorder.pending(); pending && pending->write) {
      ASSERT_EQ(pending->reg, pending->value % 2 == 0 ? "even" : "odd");
    }
  }
  stop.store(true);
  writer.join();
}

}  // namespace
}  // namespace upci
