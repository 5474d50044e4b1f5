// SPDX-License-Identifier: Apache-2.0
// Built for both variants.
#include "base/flight_recorder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "base/flight_record.h"

namespace upci {
namespace {

class FlightRecorderTest : public testing::Test {
 protected:
  FlightRecorder recorder_ = FlightRecorder::create().value();

  void read(std::string_view reg, std::uint64_t value) {
    recorder_.begin_access(reg, false);
    recorder_.end_access(value);
  }
};

TEST_F(FlightRecorderTest, EqualReadsInARowAreOneEntryWithTheirCount) {
  for (int i = 0; i < 1000; ++i) read("device_status", 0xf);
  read("device_status", 0);
  read("device_status", 0xf);
  const auto entries = recorder_.timeline("device_status");
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].value, 0xfu);
  EXPECT_EQ(entries[0].count, 1000u);
  EXPECT_EQ(entries[1].value, 0u);
  EXPECT_EQ(entries[2].count, 1u);
  EXPECT_LE(entries[0].t_us, entries[1].t_us);
}

TEST_F(FlightRecorderTest, ReadsOfOtherRegistersInBetweenDoNotBreakARow) {
  for (int i = 0; i < 100; ++i) {
    read("device_status", 0xf);
    read("vendor_id", 0x1af4);
  }
  EXPECT_EQ(recorder_.timeline("device_status").size(), 1u);
  ASSERT_EQ(recorder_.timeline("vendor_id").size(), 1u);
  EXPECT_EQ(recorder_.timeline("vendor_id")[0].count, 100u);
}

TEST_F(FlightRecorderTest, WritesAreNoReads) {
  recorder_.begin_access("device_status", true, 0);
  recorder_.end_access(0);
  EXPECT_TRUE(recorder_.timeline("device_status").empty());
  EXPECT_EQ(recorder_.last_register(), "device_status");
}

TEST_F(FlightRecorderTest, AnAccessIsPendingUntilItReturns) {
  EXPECT_FALSE(recorder_.pending());
  recorder_.begin_access("queue_notify", true, 0xabcdef0123456789);
  ASSERT_TRUE(recorder_.pending());
  EXPECT_EQ(recorder_.pending()->reg, "queue_notify");
  EXPECT_TRUE(recorder_.pending()->write);
  EXPECT_EQ(recorder_.pending()->value, 0xabcdef0123456789);
  EXPECT_GE(recorder_.pending()->t_us, 0);
  recorder_.end_access(0);
  EXPECT_FALSE(recorder_.pending());
}

TEST_F(FlightRecorderTest, AFullRecordKeepsTheFirstAndTheLatest) {
  constexpr std::uint64_t kReads = 10'000;
  for (std::uint64_t i = 0; i < kReads; ++i) read("isr", i);
  const auto entries = recorder_.timeline("isr");
  ASSERT_EQ(entries.size(), FlightRecord::kFirstEntries + FlightRecord::kLatestEntries);
  EXPECT_EQ(entries.front().value, 0u);
  EXPECT_EQ(entries[FlightRecord::kFirstEntries - 1].value, FlightRecord::kFirstEntries - 1);
  EXPECT_EQ(entries[FlightRecord::kFirstEntries].value, kReads - FlightRecord::kLatestEntries);
  EXPECT_EQ(entries.back().value, kReads - 1);
}

TEST_F(FlightRecorderTest, ARowWhoseEntryWasOverwrittenBeginsAnew) {
  for (std::uint64_t i = 0; i < FlightRecord::kFirstEntries; ++i) read("filler", i);
  read("device_status", 7);
  for (std::uint64_t i = 0; i < FlightRecord::kLatestEntries; ++i) read("isr", i);
  EXPECT_TRUE(recorder_.timeline("device_status").empty());
  read("device_status", 7);
  ASSERT_EQ(recorder_.timeline("device_status").size(), 1u);
  EXPECT_EQ(recorder_.timeline("device_status")[0].count, 1u);
}

TEST_F(FlightRecorderTest, AnyNumberOfNamesOfAnyLengthDoesNoHarm) {
  for (int i = 0; i < 1000; ++i) read("register_" + std::to_string(i), 1);
  read(std::string(500, 'x'), 2);
  read(std::string_view("a\0b", 3), 3);
  EXPECT_EQ(recorder_.timeline("register_0").size(), 1u);
  EXPECT_EQ(recorder_.last_register(), "") << "there was no room for its name";
}

TEST_F(FlightRecorderTest, ALongNameIsFoundByItsBeginning) {
  const std::string name(100, 'n');
  read(name, 1);
  EXPECT_EQ(recorder_.timeline(name).size(), 1u);
  EXPECT_EQ(recorder_.last_register(), name.substr(0, FlightRecord::kNameLength - 1));
}

TEST_F(FlightRecorderTest, StartForgets) {
  recorder_.enter_step("reset");
  EXPECT_EQ(recorder_.step(), "reset");
  for (std::uint64_t i = 0; i < 2000; ++i) read("device_status", i);
  recorder_.begin_access("device_status", false);
  recorder_.start();
  EXPECT_EQ(recorder_.step(), "");
  EXPECT_EQ(recorder_.last_register(), "");
  EXPECT_TRUE(recorder_.timeline("device_status").empty());
  EXPECT_FALSE(recorder_.pending());
  read("device_status", 1999);
  ASSERT_EQ(recorder_.timeline("device_status").size(), 1u);
  EXPECT_EQ(recorder_.timeline("device_status")[0].count, 1u) << "not a continuation of what was before";
}

TEST_F(FlightRecorderTest, KeepsAStack) {
  EXPECT_EQ(recorder_.stack().depth, 0u);
  const StackTrace here = capture_stack();
  ASSERT_GT(here.depth, 0u);
  recorder_.keep_stack(here);
  EXPECT_EQ(recorder_.stack().depth, here.depth);
  EXPECT_EQ(recorder_.stack().pc, here.pc);
}

TEST_F(FlightRecorderTest, ASecondMappingSeesTheSame) {
  const FlightRecorder other = FlightRecorder::open(UniqueFd(::fcntl(recorder_.fd(), F_DUPFD_CLOEXEC, 0))).value();
  recorder_.enter_step("features_ok");
  read("device_status", 3);
  EXPECT_EQ(other.step(), "features_ok");
  ASSERT_EQ(other.timeline("device_status").size(), 1u);
  EXPECT_EQ(other.timeline("device_status")[0].value, 3u);
}

TEST_F(FlightRecorderTest, RefusesWhatIsNoRecord) {
  EXPECT_EQ(FlightRecorder::open(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC))).error().code, Errc::kInvalid);
  EXPECT_EQ(FlightRecorder::open(UniqueFd()).error().sys_errno, EBADF);
  // Of the right size, but with other contents.
  const std::uint64_t wrong = 1;
  ASSERT_EQ(::pwrite(recorder_.fd(), &wrong, sizeof(wrong), 0), static_cast<ssize_t>(sizeof(wrong)));
  EXPECT_EQ(FlightRecorder::open(UniqueFd(::fcntl(recorder_.fd(), F_DUPFD_CLOEXEC, 0))).error().code, Errc::kInvalid);
}

TEST_F(FlightRecorderTest, ItsMemoryCannotBeCut) { EXPECT_NE(::ftruncate(recorder_.fd(), 0), 0); }

}  // namespace
}  // namespace upci
