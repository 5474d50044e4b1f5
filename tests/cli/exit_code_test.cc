// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/exit_code.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace upci::tool {
namespace {

TEST(ExitCode, UsageWinsOverEnvironmentOverVerdictOverNoDriverOverErrorOverDone) {
  const std::initializer_list<ExitCode> order = {ExitCode::kUsage,    ExitCode::kEnvironment, ExitCode::kVerdict,
                                                 ExitCode::kNoDriver, ExitCode::kError,       ExitCode::kDone};
  for (auto stronger = order.begin(); stronger != order.end(); ++stronger) {
    for (auto weaker = stronger; weaker != order.end(); ++weaker) {
      EXPECT_EQ(worse(*stronger, *weaker), *stronger);
      EXPECT_EQ(worse(*weaker, *stronger), *stronger);
    }
  }
}

TEST(ExitCode, NumbersAreThoseOfTheContract) {
  EXPECT_EQ(static_cast<int>(ExitCode::kDone), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::kError), 1);
  EXPECT_EQ(static_cast<int>(ExitCode::kUsage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::kVerdict), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::kNoDriver), 4);
  EXPECT_EQ(static_cast<int>(ExitCode::kEnvironment), 5);
}

device::Report report(std::string result) {
  device::Report report;
  report.result = std::move(result);
  return report;
}

TEST(ExitCode, SlowIsDone) { EXPECT_EQ(exit_code_of(report("slow")), ExitCode::kDone); }

TEST(ExitCode, EachOtherVerdictIsAVerdict) {
  for (const char* verdict : {"stuck", "gone", "needs_reset", "rejected", "stalled"}) {
    EXPECT_EQ(exit_code_of(report(verdict)), ExitCode::kVerdict) << verdict;
  }
}

TEST(ExitCode, ErrorOfAReportIsThatOfItsCode) {
  device::Report failed = report("error");
  EXPECT_EQ(exit_code_of(failed), ExitCode::kError);
  failed.error = Error{.code = Errc::kUnavailable};
  EXPECT_EQ(exit_code_of(failed), ExitCode::kEnvironment);
  failed.error = Error{.code = Errc::kInvalid};
  EXPECT_EQ(exit_code_of(failed), ExitCode::kUsage);
  EXPECT_EQ(exit_code_of(report("no_driver")), ExitCode::kNoDriver);
}

}  // namespace
}  // namespace upci::tool
