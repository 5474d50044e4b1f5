// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace upci {
namespace {

TEST(Error, MessageIsTheSentenceAlone) {
  const Result<> result = fail(Errc::kInvalid, "no such scheme: 'quux'", "use emu: or qemu:");
  EXPECT_EQ(result.error().message(), "no such scheme: 'quux'");
  EXPECT_EQ(result.error().advice, "use emu: or qemu:");
}

TEST(Error, MessageNamesTheErrno) {
  errno = ENOENT;
  const Result<> result = fail_errno("cannot open /dev/vfio/vfio");
  EXPECT_EQ(result.error().code, Errc::kSystem);
  EXPECT_EQ(result.error().sys_errno, ENOENT);
  EXPECT_EQ(result.error().message(), "cannot open /dev/vfio/vfio: No such file or directory");
}

TEST(Error, AGivenErrnoWinsOverTheCurrentOne) {
  errno = ENOENT;
  EXPECT_EQ(fail_errno("x", {}, EBUSY).error().sys_errno, EBUSY);
}

TEST(Error, MessageNamesTheVerdict) {
  const Result<> result = fail_verdict(Verdict::kNeedsReset, "features_ok", "device_status", "the device gave up");
  EXPECT_EQ(result.error().code, Errc::kVerdict);
  EXPECT_EQ(result.error().message(), "the device gave up (verdict: needs_reset)");
  EXPECT_EQ(result.error().step, "features_ok");
  EXPECT_EQ(result.error().reg, "device_status");
}

Result<int> half(int n) {
  if (n % 2 != 0) return fail(Errc::kInvalid, "odd");
  return n / 2;
}
Result<int> quarter(int n) {
  UPCI_TRY(half(n));
  UPCI_TRY_ASSIGN(const int once, half(n));
  UPCI_TRY_ASSIGN(const int twice, half(once));
  return twice;
}

TEST(Error, TryReturnsTheFirstError) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().what, "odd");
  EXPECT_EQ(quarter(7).error().what, "odd");
}

}  // namespace
}  // namespace upci
