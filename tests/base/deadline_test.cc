// SPDX-License-Identifier: Apache-2.0
// Built for both variants.
#include "base/deadline.h"

#include <gtest/gtest.h>

namespace upci {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

TEST(Deadline, AnEnormousSpanIsNever) {
  EXPECT_FALSE(Deadline::after(platform::Nanoseconds::max()).is_bounded());
  EXPECT_FALSE(Deadline::never().expired());
  EXPECT_EQ(Deadline::never().remaining(), platform::Nanoseconds::max());
}

TEST(Deadline, APastOneIsExpiredAndHasNothingLeft) {
  const Deadline past = Deadline::after(-seconds(1));
  EXPECT_TRUE(past.expired());
  EXPECT_EQ(past.remaining(), platform::Nanoseconds::zero());
}

TEST(Deadline, APartIsNeverLaterThanTheWhole) {
  const Deadline whole = Deadline::after(seconds(10));
  EXPECT_EQ(whole.at_most(hours(1)).when(), whole.when());
  EXPECT_LT(whole.at_most(seconds(1)).when(), whole.when());
  EXPECT_TRUE(Deadline::never().at_most(seconds(1)).is_bounded());
}

TEST(Deadline, LengthIsWhatItWasMadeWith) { EXPECT_EQ(Deadline::after(seconds(7)).length(), seconds(7)); }

}  // namespace
}  // namespace upci
