// SPDX-License-Identifier: Apache-2.0
// Context::probe: results, verdicts, deadlines, many devices at once.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/stack.h"
#include "tests/device/fake_device.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

bool has_note(const Report& report, const std::string& part) {
  return std::any_of(report.notes.begin(), report.notes.end(),
                     [&](const std::string& note) { return note.find(part) != std::string::npos; });
}

#if !defined(UPCI_SIM)
// ThreadSanitizer holds signals back while a thread is in a system call that it does not know (futex): the stack of a
// worker that hangs there cannot be taken, and the report must say so.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UPCI_TEST_SIGNALS_WAIT true
#endif
#endif
#if !defined(UPCI_TEST_SIGNALS_WAIT)
#define UPCI_TEST_SIGNALS_WAIT false
#endif
constexpr bool kSignalsWait = UPCI_TEST_SIGNALS_WAIT;

bool names(const StackTrace& trace, const std::string& part) {
  const auto frames = symbolize(trace);
  return std::any_of(frames.begin(), frames.end(),
                     [&](const StackFrame& frame) { return frame.function.find(part) != std::string::npos; });
}
#endif

TEST(Probe, OkBindsTheDriverAndReportsIt) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:ok", [](FakeDevice& fake, Deadline deadline) {
      fake.set_features({"MAC", "STATUS"});
      return binds(fake, deadline);
    });
    EXPECT_EQ(context->bound(*device), nullptr);
    const Report report = context->probe(device, 1s);
    EXPECT_TRUE(report.ok());
    EXPECT_EQ(report.result, "ok");
    EXPECT_EQ(report.device, "fake:ok");
    EXPECT_EQ(report.driver, "fake");
    EXPECT_EQ(report.features, (std::vector<std::string>{"MAC", "STATUS"}));
    EXPECT_EQ(report.deadline, 1s);
    EXPECT_FALSE(report.error.has_value());
    EXPECT_GT(report.requested_by.depth, 0U);
    EXPECT_NE(context->bound(*device), nullptr);
    EXPECT_TRUE(device->log->has("bound"));
  });
}

TEST(Probe, SuccessAfterHalfOfTheDeadlineIsSlowAndNamesTheLongestWait) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:slow", resets);
    device->on_read = [until = platform::TimePoint{}]() mutable -> std::uint64_t {
      if (until == platform::TimePoint{}) until = platform::Clock::now() + 60ms;
      return platform::Clock::now() >= until ? 0 : 0x0f;
    };
    const Report report = context->probe(device, 100ms);
    EXPECT_EQ(report.result, "slow");
    EXPECT_TRUE(report.ok());
    EXPECT_EQ(report.step, "reset");
    EXPECT_EQ(report.reg, "device_status");
    EXPECT_EQ(report.timeline.size(), 2U);
    EXPECT_GE(report.elapsed, 60ms);
    EXPECT_NE(context->bound(*device), nullptr);
  });
}

TEST(Probe, StuckRegisterIsAVerdictAtTheDeadlineWithItsEvidence) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:stuck", resets);
    device->status.store(0x0f);
    const auto start = platform::Clock::now();
    const Report report = context->probe(device, 300ms);
    EXPECT_GE(platform::Clock::now() - start, 300ms);
    EXPECT_EQ(report.result, "stuck");
    EXPECT_FALSE(report.ok());
    EXPECT_EQ(report.step, "reset");
    EXPECT_EQ(report.reg, "device_status");
    EXPECT_GE(report.elapsed, 300ms);
    EXPECT_LE(report.elapsed, at_most(300ms));
    ASSERT_EQ(report.timeline.size(), 1U);
    EXPECT_EQ(report.timeline[0].value, 0x0fU);
    EXPECT_GT(report.backtrace.depth, 0U);
    ASSERT_TRUE(report.error.has_value());
    EXPECT_EQ(report.error->verdict, Verdict::kStuck);
    // Made safe, and free for another try.
    EXPECT_TRUE(device->log->has("bus master off"));
    EXPECT_TRUE(device->log->has("reset"));
    EXPECT_FALSE(device->state()->quarantined());
    EXPECT_EQ(context->bound(*device), nullptr);
    device->status.store(0);
    EXPECT_EQ(context->probe(device, 300ms).result, "ok");
  });
}

TEST(Probe, OfThreeDevicesTheStuckOneDelaysNoOther) {
  on_platform([] {
    auto context = make_context();
    const std::shared_ptr<FakeDevice> stuck = make_device(*context, "fake:0", resets);
    stuck->status.store(0x0f);
    const std::shared_ptr<Device> devices[] = {stuck, make_device(*context, "fake:1", resets),
                                               make_device(*context, "fake:2", resets)};
    const auto start = platform::Clock::now();
    const auto reports = context->probe(devices, 2s);
    EXPECT_LE(platform::Clock::now() - start, at_most(2s));
    ASSERT_EQ(reports.size(), 3U);
    EXPECT_EQ(reports[0].device, "fake:0");
    EXPECT_EQ(reports[0].result, "stuck");
    for (const Report& other : {reports[1], reports[2]}) {
      EXPECT_EQ(other.result, "ok");
      EXPECT_LE(other.elapsed, at_most(0ns));
      EXPECT_LT(other.elapsed, 1s);
    }
  });
}

TEST(Probe, AStalledAccessDoesNotDelayTheProbesThatShareItsCpu) {
  on_platform([] {
    auto context = make_context(*Topology::synthetic("numa:1 core:1"));
    HiddenGate access;
    const std::shared_ptr<FakeDevice> stalled = make_device(*context, "fake:0", resets);
    stalled->on_read = [&]() -> std::uint64_t {
      access.pass();
      return 0;
    };
    stalled->control().on_abandon = [&] { access.open(); };
    const std::shared_ptr<Device> devices[] = {stalled, make_device(*context, "fake:1", resets),
                                               make_device(*context, "fake:2", resets)};
    const auto reports = context->probe(devices, 500ms);
    EXPECT_EQ(reports[0].result, "stalled");
    EXPECT_EQ(reports[1].result, "ok");
    EXPECT_EQ(reports[2].result, "ok");
    context.reset();  // waits for the worker, which still uses the gate
  });
}

TEST(Probe, AnAccessThatDoesNotReturnIsStalledAtTheDeadlineAndItsLateInstanceIsNeverPublished) {
  on_platform([] {
    auto context = make_context();
    HiddenGate access;
    platform::Atomic<int> probed_on{0};
    auto device =
        make_device(*context, "fake:stalled", [&](FakeDevice& fake, Deadline) -> Result<std::unique_ptr<Bound>> {
          probed_on.store(platform::this_thread::id());
          fake.state()->recorder().enter_step("reset");
          fake.read_status();  // hangs, then reads all ones; this driver does not care
          return std::make_unique<FakeBound>(fake);
        });
    const auto log = device->log;
    device->on_read = [&]() -> std::uint64_t {
      access.pass();
      return 0;
    };
    device->control().on_abandon = [&] { access.open(); };
    FakeBound::destroyed_on.store(0);
    const Report report = context->probe(device, 200ms);
    EXPECT_EQ(report.result, "stalled");
    EXPECT_EQ(report.step, "reset");
    EXPECT_EQ(report.reg, "device_status");
    EXPECT_GE(report.elapsed, 200ms);
    EXPECT_LE(report.elapsed, at_most(200ms));
    EXPECT_TRUE(has_note(report, "written off"));
    EXPECT_TRUE(device->state()->abandoned());
    EXPECT_EQ(context->bound(*device), nullptr);
    // Given up for good.
    const Report again = context->probe(device, 200ms);
    ASSERT_TRUE(again.error.has_value());
    EXPECT_EQ(again.error->code, Errc::kState);
    context.reset();  // waits for the worker
    EXPECT_EQ(FakeBound::destroyed_on.load(), probed_on.load());
    EXPECT_FALSE(log->has("bound"));
    EXPECT_TRUE(log->has("quiesce"));
  });
}

TEST(Probe, AProbeThatIgnoresItsDeadlineIsStuckAfterTheGrace) {
  on_platform([] {
    auto context = make_context();
    HiddenGate gate;
    auto device =
        make_device(*context, "fake:endless", [&](FakeDevice& fake, Deadline) -> Result<std::unique_ptr<Bound>> {
          fake.read_status();
          gate.pass();
          return fail(Errc::kState, "came back");
        });
    device->control().on_abandon = [&] { gate.open(); };
    const Report report = context->probe(device, 200ms);
    EXPECT_EQ(report.result, "stuck");
    EXPECT_EQ(report.step, "probe");
    EXPECT_EQ(report.reg, "device_status");
    EXPECT_GE(report.elapsed, 200ms);
    EXPECT_LE(report.elapsed, at_most(250ms));
    EXPECT_TRUE(device->state()->abandoned());
#if !defined(UPCI_SIM)
    // ThreadSanitizer may hold the signal back for as long as the thread sleeps.
    if (!kSignalsWait || !has_note(report, "stack could not be taken")) {
      EXPECT_TRUE(names(report.backtrace, "HiddenGate"));
    }
#endif
    context.reset();  // waits for the worker, which still uses the gate
  });
}

TEST(Probe, AnErrorOfTheDriverIsReportedAndTheDeviceSilenced) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:error", [](FakeDevice& fake, Deadline) -> Result<std::unique_ptr<Bound>> {
      fake.state()->recorder().enter_step("queues");
      return fail(Errc::kDevice, "a queue of size 3");
    });
    const Report report = context->probe(device, 1s);
    EXPECT_EQ(report.result, "error");
    EXPECT_EQ(report.step, "queues");
    ASSERT_TRUE(report.error.has_value());
    EXPECT_EQ(report.error->what, "a queue of size 3");
    EXPECT_TRUE(device->log->has("reset"));
  });
}

TEST(Probe, ADriverThatReturnsNothingIsAnError) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:null",
                              [](FakeDevice&, Deadline) -> Result<std::unique_ptr<Bound>> { return nullptr; });
    EXPECT_EQ(context->probe(device, 1s).result, "error");
  });
}

TEST(Probe, WithoutAMatchingDriverItSaysNoDriver) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:nobody's", nullptr);
    const Report report = context->probe(device, 1s);
    EXPECT_EQ(report.result, "no_driver");
    EXPECT_EQ(report.driver, "");
    EXPECT_EQ(report.error->code, Errc::kNoDriver);
  });
}

TEST(Probe, ADeviceIsProbedOnceAtATimeAndNotWhenBound) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:once", binds);
    const std::shared_ptr<Device> twice[] = {device, device};
    const auto reports = context->probe(twice, 1s);
    EXPECT_EQ(reports[0].result, "ok");
    EXPECT_EQ(reports[1].result, "error");
    EXPECT_EQ(reports[1].error->code, Errc::kState);
    EXPECT_EQ(context->probe(device, 1s).error->code, Errc::kState);
    EXPECT_NE(context->bound(*device), nullptr);
  });
}

TEST(Probe, ADeviceBelongsToOneContextOnly) {
  on_platform([] {
    auto one = make_context();
    auto other = make_context();
    auto device = make_device(*one, "fake:mine", binds);
    EXPECT_EQ(other->add_device(device).error().code, Errc::kState);
    EXPECT_EQ(other->probe(device, 1s).error->code, Errc::kState);
    EXPECT_EQ(one->probe(device, 1s).result, "ok");
    EXPECT_EQ(other->probe(make_device(*other, "fake:its own", binds), 1s).result, "ok");
  });
}

TEST(Probe, AProbeWhoseCpuIsNeverFreeEndsInTimeAndNeverRuns) {
  on_platform(
      [] {
        auto context = make_context(*Topology::synthetic("numa:1 core:1"));
        platform::Atomic<bool> free{false}, holds{false}, ran{false};
        auto hog = platform::Thread::create({.name = "hog"}, [&] {
          const auto done = context->engine().work_on_cpu(0, [&] {
            holds.store(true);
            while (!free.load()) platform::relax();
          });
          EXPECT_TRUE(done.has_value());
        });
        while (!holds.load()) platform::this_thread::yield();
        auto device = make_device(*context, "fake:starved", [&](FakeDevice& fake, Deadline deadline) {
          ran.store(true);
          return binds(fake, deadline);
        });
        const Report report = context->probe(device, 2ms);
        free.store(true);
        hog->join();
        EXPECT_EQ(report.result, "error");
        ASSERT_TRUE(report.error.has_value());
        EXPECT_EQ(report.error->code, Errc::kTimeout);
        EXPECT_FALSE(ran.load());
        EXPECT_EQ(report.cpu, -1);
        EXPECT_EQ(context->probe(device, 1s).result, "ok");
      },
      20);
}

TEST(Probe, SeveralThreadsProbeAtOnce) {
  on_platform([] {
    auto context = make_context();
    std::vector<platform::Thread> threads;
    for (int i = 0; i < 4; ++i) {
      auto thread = platform::Thread::create({.name = "prober"}, [&context, i] {
        auto device = make_device(*context, "fake:" + std::to_string(i), resets, i % 2);
        if (i == 0) device->status.store(1);
        const Report report = context->probe(device, 50ms);
        EXPECT_EQ(report.result, i == 0 ? "stuck" : "ok");
        if (i == 1) { EXPECT_TRUE(context->remove(device, Deadline::after(1s)).has_value()); }
      });
      ASSERT_TRUE(thread.has_value());
      threads.push_back(std::move(*thread));
    }
    for (auto& thread : threads) thread.join();
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
