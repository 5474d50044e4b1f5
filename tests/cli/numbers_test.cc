// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/numbers.h"

#include <gtest/gtest.h>

#include <chrono>

namespace upci::tool {
namespace {

using namespace std::chrono_literals;

TEST(Duration, IsAWholeNumberAndItsUnit) {
  EXPECT_EQ(parse_duration("--timeout", "300ms").value(), 300ms);
  EXPECT_EQ(parse_duration("--timeout", "2s").value(), 2s);
  EXPECT_EQ(parse_duration("--timeout", "1500us").value(), 1500us);
  EXPECT_EQ(parse_duration("--timeout", "9223372036s").value(), 9223372036s);
}

TEST(Duration, RefusesWhatIsNone) {
  for (const char* text : {"",
                           "s",
                           "ms",
                           "2",
                           "0s",
                           "0",
                           "000ms",
                           "-1s",
                           "+1s",
                           "1.5s",
                           "1 s",
                           " 1s",
                           "1s ",
                           "2m",
                           "2h",
                           "1e3ms",
                           "0x10s",
                           "9223372037s",
                           "99999999999999999999us",
                           "18446744073709551616s",
                           "2S",
                           "300msec",
                           "nan",
                           "inf"}) {
    const auto parsed = parse_duration("--timeout", text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, Errc::kInvalid) << text;
    EXPECT_NE(parsed.error().what.find("--timeout"), std::string::npos) << text;
  }
}

TEST(Count, LiesWithinItsBounds) {
  EXPECT_EQ(parse_count("--frames", "1", 1, 10).value(), 1U);
  EXPECT_EQ(parse_count("--frames", "10", 1, 10).value(), 10U);
  for (const char* text : {"", "0", "11", "-1", "+1", "1x", "x", "1.0", "1,000", " 1", "99999999999999999999"}) {
    const auto parsed = parse_count("--frames", text, 1, 10);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, Errc::kInvalid) << text;
  }
}

}  // namespace
}  // namespace upci::tool
