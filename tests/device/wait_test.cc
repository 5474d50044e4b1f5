// SPDX-License-Identifier: Apache-2.0
// wait_for_register: what each wait ends in, and when.
#include "device/wait.h"

#include <gtest/gtest.h>

#include "base/stack.h"
#include "tests/device/fake_device.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using device::RegisterWait;
using device::WaitStep;

std::shared_ptr<FakeDevice> lone_device() { return FakeDevice::make("fake:wait", 0, nullptr); }

platform::Nanoseconds since(platform::TimePoint start) { return platform::Clock::now() - start; }

TEST(WaitForRegister, ReadsAtOnceAndDoesNotSleepWhenTheValueIsThere) {
  on_platform([] {
    auto device = lone_device();
    const auto start = platform::Clock::now();
    const auto value = device->wait_for_reset(Deadline::after(10s));
    ASSERT_TRUE(value.has_value());
    EXPECT_EQ(*value, 0U);
    EXPECT_LE(since(start), at_most(0ns));
    const auto timeline = device->state()->recorder().timeline("device_status");
    ASSERT_EQ(timeline.size(), 1U);
    EXPECT_EQ(timeline[0].count, 1U);
  });
}

TEST(WaitForRegister, IsStuckAtTheDeadlineAndNeverBefore) {
  on_platform([] {
    auto device = lone_device();
    device->status.store(0x0f);
    const auto start = platform::Clock::now();
    const auto value = device->wait_for_reset(Deadline::after(30ms));
    EXPECT_GE(since(start), 30ms);
    EXPECT_LE(since(start), at_most(30ms));
    ASSERT_FALSE(value.has_value());
    EXPECT_EQ(value.error().verdict, Verdict::kStuck);
    EXPECT_EQ(value.error().step, "reset");
    EXPECT_EQ(value.error().reg, "device_status");
    EXPECT_EQ(value.error().advice, "power it off and on");
    EXPECT_EQ(device->state()->recorder().step(), "reset");
  });
}

TEST(WaitForRegister, TakesAValueThatComesWithTheLastReadAtTheDeadline) {
  on_platform([] {
    auto device = lone_device();
    const Deadline deadline = Deadline::after(30ms);
    device->on_read = [deadline] { return deadline.expired() ? 0U : 1U; };
    const auto value = device->wait_for_reset(deadline);
    EXPECT_TRUE(value.has_value());
  });
}

TEST(WaitForRegister, ReadsOnceEvenWhenTheDeadlineHasPassed) {
  on_platform([] {
    auto device = lone_device();
    EXPECT_TRUE(device->wait_for_reset(Deadline::after(0ns)).has_value());
    device->status.store(1);
    EXPECT_EQ(device->wait_for_reset(Deadline::after(0ns)).error().verdict, Verdict::kStuck);
  });
}

TEST(WaitForRegister, PollsEveryMillisecondNotOften) {
  on_platform([] {
    auto device = lone_device();
    device->status.store(1);
    ASSERT_FALSE(device->wait_for_reset(Deadline::after(100ms)).has_value());
    const auto timeline = device->state()->recorder().timeline("device_status");
    ASSERT_EQ(timeline.size(), 1U);
    EXPECT_LE(timeline[0].count, 110U);  // at once, short pauses, each millisecond, at the deadline
    EXPECT_GE(timeline[0].count, 5U);
  });
}

TEST(WaitForRegister, IsGoneAtOnceWhenAllOnesAndNotPresent) {
  on_platform([] {
    auto device = lone_device();
    device->status.store(0xff);
    device->control().is_present.store(false);
    const auto start = platform::Clock::now();
    const auto value = device->wait_for_reset(Deadline::after(100s));
    ASSERT_FALSE(value.has_value());
    EXPECT_EQ(value.error().verdict, Verdict::kGone);
    EXPECT_LE(since(start), at_most(0ns));
  });
}

TEST(WaitForRegister, AllOnesWithALiveConfigSpaceIsStuckWithTheHintThatDecodingIsOff) {
  on_platform([] {
    auto device = lone_device();
    device->status.store(0xff);
    const auto start = platform::Clock::now();
    const auto value = device->wait_for_reset(Deadline::after(20ms));
    ASSERT_FALSE(value.has_value());
    EXPECT_EQ(value.error().verdict, Verdict::kStuck);
    EXPECT_NE(value.error().advice.find("decoding"), std::string::npos);
    EXPECT_GE(since(start), 20ms);
  });
}

TEST(WaitForRegister, EndsInTheJudgesVerdictAtOnce) {
  on_platform([] {
    auto device = lone_device();
    const auto wait = [&](WaitStep step) {
      return wait_for_register(*device->state(), device->control(),
                               {.step = "features_ok",
                                .reg = "device_status",
                                .deadline = Deadline::after(100s),
                                .read = [] { return std::uint64_t{0x4b}; },
                                .judge = [step](std::uint64_t) { return step; }});
    };
    const auto start = platform::Clock::now();
    EXPECT_EQ(wait(WaitStep::kNeedsReset).error().verdict, Verdict::kNeedsReset);
    EXPECT_EQ(wait(WaitStep::kRejected).error().verdict, Verdict::kRejected);
    EXPECT_LE(since(start), at_most(0ns));
  });
}

TEST(WaitForRegister, IsGoneWhenTheDeviceIsGivenUpMeanwhile) {
  on_platform([] {
    auto device = lone_device();
    device->status.store(1);
    auto other = platform::Thread::create({.name = "abandoner"}, [&] {
      platform::this_thread::sleep_until(platform::Clock::now() + 5ms);
      device->abandon();
    });
    ASSERT_TRUE(other.has_value());
    const auto value = device->wait_for_reset(Deadline::after(100s));
    other->join();
    ASSERT_FALSE(value.has_value());
    EXPECT_EQ(value.error().verdict, Verdict::kGone);
  });
}

TEST(WaitForRegister, OtherItemsOfTheCpuRunWhileItWaits) {
  on_platform([] {
    auto engine = *Engine::create({.topology = small_topology()});
    auto device = lone_device();
    device->status.store(1);
    const auto first = engine->work_on_cpu(1, [&] {
      // Queued on the CPU that this worker holds: it can run only because the wait tells the engine.
      auto opener = platform::Thread::create({.name = "opener"}, [&] {
        EXPECT_TRUE(engine->work_on_cpu(1, [&] { device->status.store(0); }).has_value());
      });
      const bool ok = device->wait_for_reset(Deadline::after(100s)).has_value();
      opener->join();
      return ok;
    });
    ASSERT_TRUE(first.has_value());
    EXPECT_TRUE(*first);
  });
}

#if !defined(UPCI_SIM)
TEST(WaitForRegister, KeepsAStackThatNamesTheWaitingFunction) {
  auto device = lone_device();
  device->status.store(1);
  ASSERT_FALSE(device->wait_for_reset(Deadline::after(1ms)).has_value());
  const auto frames = symbolize(device->state()->recorder().stack());
  ASSERT_FALSE(frames.empty());
  EXPECT_NE(frames[0].function.find("wait_for_register"), std::string::npos) << frames[0].function;
}
#endif

TEST(DrivingScope, OnlyTheDrivingThreadRecordsOnceTheDeviceIsTaken) {
  on_platform([] {
    auto device = lone_device();
    EXPECT_TRUE(device->state()->records());
    {
      const device::DrivingScope driving(*device->state());
      EXPECT_TRUE(device->state()->records());
      auto other = platform::Thread::create({.name = "other"}, [&] { EXPECT_FALSE(device->state()->records()); });
      ASSERT_TRUE(other.has_value());
      other->join();
    }
    EXPECT_FALSE(device->state()->records());
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
