// SPDX-License-Identifier: Apache-2.0
// The capability walk trusts nothing: every broken list ends, in an error.
#include "pci/config.h"

#include <gtest/gtest.h>

#include "tests/pci/fake_backend.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using pci::ConfigSpace;

struct PciConfig : testing::Test {
  std::shared_ptr<FakeBackend> backend = std::make_shared<FakeBackend>();
  ConfigSpace config{backend};
};

TEST_F(PciConfig, ReadsTheIdentity) {
  backend->set16(0x2c, 0x1af4);
  backend->set16(0x2e, 0x1100);
  backend->config[0x08] = 0x10;
  backend->config[0x0b] = 0x02;
  backend->config[0x0a] = 0x80;
  backend->config[0x09] = 0x01;
  const auto identity = config.identity();
  ASSERT_TRUE(identity.has_value());
  EXPECT_EQ(identity->vendor, 0x1234);
  EXPECT_EQ(identity->device, 0x11e8);
  EXPECT_EQ(identity->subsystem_vendor, 0x1af4);
  EXPECT_EQ(identity->subsystem_device, 0x1100);
  EXPECT_EQ(identity->class_code, 0x028001U);
  EXPECT_EQ(identity->revision, 0x10);
}

TEST_F(PciConfig, ASpaceFullOfOnesIsADeviceThatIsGone) {
  backend->config.fill(0xff);
  ASSERT_FALSE(config.identity().has_value());
  EXPECT_EQ(config.identity().error().verdict, Verdict::kGone);
  EXPECT_EQ(config.capabilities().error().code, Errc::kDevice);
}

TEST_F(PciConfig, WalksTheListInTheDevicesOrder) {
  backend->set_capabilities(0x50, {{0x50, 0x09, 0x40}, {0x40, 0x11, 0xfc}, {0xfc, 0x09, 0x00}});
  const auto found = config.capabilities();
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->size(), 3U);
  EXPECT_EQ((*found)[0].offset, 0x50);
  EXPECT_EQ((*found)[1].id, 0x11);
  EXPECT_EQ((*found)[2].offset, 0xfc);
  EXPECT_EQ((*config.find(0x09))->offset, 0x50);  // the first of its kind
  EXPECT_FALSE(config.find(0x05)->has_value());
}

TEST_F(PciConfig, WithoutTheStatusBitThereIsNoList) {
  backend->config[0x34] = 0x40;
  backend->config[0x40] = 0x09;
  ASSERT_TRUE(config.capabilities().has_value());
  EXPECT_TRUE(config.capabilities()->empty());
}

TEST_F(PciConfig, ACardBusBridgeHasItsListElsewhere) {
  backend->set_capabilities(0x00, {{0x80, 0x01, 0x00}});
  backend->config[0x0e] = 0x82;
  backend->config[0x14] = 0x80;
  EXPECT_EQ(config.capabilities()->at(0).offset, 0x80);
}

TEST_F(PciConfig, TheLongestListIsTakenWhole) {
  std::vector<std::array<std::uint8_t, 3>> entries;
  for (unsigned offset = 0x40; offset <= 0xfc; offset += 4) {
    entries.push_back({static_cast<std::uint8_t>(offset), 0x09, static_cast<std::uint8_t>(offset + 4)});
  }
  backend->set_capabilities(0x40, entries);  // the last one's next is 0x100, cut to 0
  ASSERT_TRUE(config.capabilities().has_value());
  EXPECT_EQ(config.capabilities()->size(), 48U);
}

TEST_F(PciConfig, RefusesLoops) {
  backend->set_capabilities(0x40, {{0x40, 0x09, 0x50}, {0x50, 0x09, 0x40}});
  EXPECT_EQ(config.capabilities().error().code, Errc::kDevice);
  EXPECT_NE(config.capabilities().error().what.find("loop"), std::string::npos);
  backend->set_capabilities(0x40, {{0x40, 0x09, 0x40}});
  EXPECT_EQ(config.capabilities().error().code, Errc::kDevice);
}

TEST_F(PciConfig, RefusesPointersIntoTheHeaderOrOutOfAlignment) {
  backend->set_capabilities(0x3c, {});
  EXPECT_EQ(config.capabilities().error().code, Errc::kDevice);
  backend->set_capabilities(0x42, {});
  EXPECT_EQ(config.capabilities().error().code, Errc::kDevice);
  backend->set_capabilities(0x40, {{0x40, 0x09, 0x04}});
  EXPECT_EQ(config.capabilities().error().code, Errc::kDevice);
  backend->set_capabilities(0x40, {{0x40, 0x09, 0x51}});
  EXPECT_EQ(config.capabilities().error().code, Errc::kDevice);
}

TEST_F(PciConfig, RefusesACapabilityFullOfOnes) {
  backend->set_capabilities(0x40, {{0x40, 0xff, 0xff}});
  EXPECT_EQ(config.capabilities().error().code, Errc::kDevice);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
