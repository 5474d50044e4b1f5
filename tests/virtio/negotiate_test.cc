// SPDX-License-Identifier: Apache-2.0
#include "virtio/negotiate.h"

#include <gtest/gtest.h>

#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"

namespace upci::virtio_tests {
namespace {

using virtio::spec::mask_of;
namespace feature = virtio::spec::feature;
namespace net_feature = virtio::spec::net_feature;

constexpr std::uint64_t kVersion1 = mask_of(feature::kVersion1);
constexpr std::uint64_t kMac = mask_of(net_feature::kMac);
constexpr std::uint64_t kStatus = mask_of(net_feature::kStatus);

class NegotiateTest : public testing::Test {
 protected:
  Result<std::uint64_t> run(std::uint64_t offered, bool legacy = false) {
    return virtio::negotiate(table, offered, virtio::spec::kDeviceNet, legacy, options);
  }
  virtio::FeatureTable table{.wanted = kMac | kStatus, .required = 0};
  device::BindOptions options;
};

TEST_F(NegotiateTest, NothingIsAcceptedThatWasNotOffered) {
  EXPECT_EQ(run(kVersion1 | kMac).value(), kVersion1 | kMac);
}

TEST_F(NegotiateTest, NothingIsAcceptedThatNobodyWants) {
  EXPECT_EQ(run(kVersion1 | kMac | mask_of(feature::kRingPacked) | mask_of(net_feature::kMq)).value(),
            kVersion1 | kMac);
}

TEST_F(NegotiateTest, AModernDeviceMustOfferVersion1) {
  const auto result = run(kMac);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().verdict, Verdict::kRejected);
  EXPECT_EQ(result.error().step, "features");
  EXPECT_EQ(result.error().reg, "device_feature");
  EXPECT_NE(result.error().what.find("VERSION_1"), std::string::npos);
}

TEST_F(NegotiateTest, ALegacyDeviceHasNoBitAbove31) {
  EXPECT_EQ(run(kVersion1 | mask_of(feature::kAccessPlatform) | kMac, true).value(), kMac);
}

TEST_F(NegotiateTest, AnyLayoutIsAcceptedWhenALegacyDeviceOffersIt) {
  const std::uint64_t any_layout = mask_of(feature::kAnyLayout);
  EXPECT_EQ(run(any_layout | kMac, true).value(), any_layout | kMac);
  EXPECT_EQ(run(kMac, true).value(), kMac);
  EXPECT_EQ(run(kVersion1 | any_layout | kMac).value(), kVersion1 | kMac) << "a modern device does not offer it";
}

TEST_F(NegotiateTest, AccessPlatformIsAcceptedWhenOffered) {
  const std::uint64_t offered = kVersion1 | mask_of(feature::kAccessPlatform);
  EXPECT_EQ(run(offered).value(), offered);
}

TEST_F(NegotiateTest, AMissingFeatureThatTheDriverNeedsIsNamed) {
  table.required = kStatus;
  const auto result = run(kVersion1 | kMac);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().verdict, Verdict::kRejected);
  EXPECT_NE(result.error().what.find("STATUS"), std::string::npos);
}

TEST_F(NegotiateTest, InsistingOnAnAbsentFeatureIsRejected) {
  options.require_features = {"STATUS"};
  const auto result = run(kVersion1 | kMac);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().verdict, Verdict::kRejected);
  EXPECT_NE(result.error().what.find("STATUS"), std::string::npos);
  EXPECT_EQ(run(kVersion1 | kStatus).value(), kVersion1 | kStatus);
}

TEST_F(NegotiateTest, ADeclinedFeatureIsLeftOut) {
  options.decline_features = {"MAC"};
  EXPECT_EQ(run(kVersion1 | kMac | kStatus).value(), kVersion1 | kStatus);
}

TEST_F(NegotiateTest, AnUnknownNameIsInvalid) {
  options.decline_features = {"NO_SUCH"};
  const auto result = run(kVersion1);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::kInvalid);
  EXPECT_NE(result.error().what.find("NO_SUCH"), std::string::npos);
}

TEST_F(NegotiateTest, AFeatureThatTheDriverCannotUseIsInvalid) {
  options.require_features = {"RING_PACKED"};
  const auto result = run(kVersion1 | mask_of(feature::kRingPacked));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::kInvalid);
}

TEST_F(NegotiateTest, DecliningWhatTheDriverNeedsIsInvalid) {
  options.decline_features = {"VERSION_1"};
  const auto result = run(kVersion1);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::kInvalid);
}

TEST_F(NegotiateTest, TheSameFeatureBothWaysIsInvalid) {
  options.require_features = {"MAC"};
  options.decline_features = {"MAC"};
  EXPECT_EQ(run(kVersion1 | kMac).error().code, Errc::kInvalid);
}

TEST(FeatureNames, AreTheSpecificationsLowestFirst) {
  EXPECT_EQ(virtio::feature_names(virtio::spec::kDeviceNet, kVersion1 | kMac | mask_of(50)),
            (std::vector<std::string>{"MAC", "VERSION_1", "bit 50"}));
}

}  // namespace
}  // namespace upci::virtio_tests
