// SPDX-License-Identifier: Apache-2.0
#include "pci/address.h"

#include <gtest/gtest.h>

namespace upci::inline UPCI_VARIANT::test {
namespace {

using pci::Address;

TEST(PciAddress, ParsesAndPrintsTheUsualForm) {
  const auto address = Address::parse("0000:65:1f.7");
  ASSERT_TRUE(address.has_value());
  EXPECT_EQ(*address, (Address{.domain = 0, .bus = 0x65, .device = 0x1f, .function = 7}));
  EXPECT_EQ(address->to_string(), "0000:65:1f.7");
  EXPECT_EQ(Address::parse("0000:AB:00.0")->to_string(), "0000:ab:00.0");
}

TEST(PciAddress, TakesDomainsOfMoreThanSixteenBits) {
  EXPECT_EQ(Address::parse("10000:e1:00.0")->domain, 0x10000U);
  EXPECT_EQ(Address::parse("10000:e1:00.0")->to_string(), "10000:e1:00.0");
}

TEST(PciAddress, RefusesEverythingElseAndSaysWhatToWrite) {
  for (const char* text :
       {"", "65:00.0", "0000:65:00", "0000:65:00.", "0000:65:00.8", "0000:65:20.0", "0000:65:00.00", "000:65:00.0",
        "0000:6:00.0", "0000:165:00.0", "0000:65:00.0 ", " 0000:65:00.0", "0000:g5:00.0", "0000:65:00.0x",
        "0x00:65:00.0", "-000:65:00.0", "000000000:65:00.0", "0000-65-00.0", "0000:65:+1.0"}) {
    const auto address = Address::parse(text);
    ASSERT_FALSE(address.has_value()) << text;
    EXPECT_EQ(address.error().code, Errc::kInvalid);
    EXPECT_NE(address.error().advice.find("0000:65:00.0"), std::string::npos);
  }
}

TEST(PciAddress, OrdersByDomainBusDeviceFunction) {
  EXPECT_LT(*Address::parse("0000:65:00.1"), *Address::parse("0000:65:01.0"));
  EXPECT_LT(*Address::parse("0000:ff:1f.7"), *Address::parse("0001:00:00.0"));
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
