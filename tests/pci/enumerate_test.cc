// SPDX-License-Identifier: Apache-2.0
// Whatever machine this runs on: what is listed agrees with sysfs, and listing twice gives the same.
#include "pci/enumerate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

namespace upci::inline UPCI_VARIANT::test {
namespace {

namespace fs = std::filesystem;
const fs::path kSysfs = "/sys/bus/pci/devices";

TEST(PciEnumerate, AgreesWithSysfs) {
  std::error_code none;
  const auto functions = pci::enumerate();
  if (!fs::exists(kSysfs, none)) {
    ASSERT_FALSE(functions.has_value());
    EXPECT_EQ(functions.error().code, Errc::kUnavailable);
    return;
  }
  ASSERT_TRUE(functions.has_value()) << functions.error().message();
  std::set<std::string> listed, there;
  for (const auto& function : *functions) {
    const std::string address = function.address.to_string();
    listed.insert(address);
    unsigned long vendor = 0;
    std::ifstream(kSysfs / address / "vendor") >> std::hex >> vendor;
    EXPECT_EQ(function.vendor, vendor) << address;
    EXPECT_EQ(function.driver.empty(), !fs::exists(kSysfs / address / "driver")) << address;
    EXPECT_EQ(function.iommu_group < 0, !fs::exists(kSysfs / address / "iommu_group")) << address;
    EXPECT_EQ(function.virtio == pci::VirtioInterface::kNone,
              !(function.vendor == 0x1af4 && function.device >= 0x1000 && function.device <= 0x107f))
        << address;
  }
  for (const auto& entry : fs::directory_iterator(kSysfs)) there.insert(entry.path().filename().string());
  EXPECT_EQ(listed, there);
  EXPECT_TRUE(std::is_sorted(functions->begin(), functions->end(),
                             [](const auto& a, const auto& b) { return a.address < b.address; }));
}

TEST(PciEnumerate, MayBeRepeated) {
  const auto first = pci::enumerate();
  const auto second = pci::enumerate();
  ASSERT_EQ(first.has_value(), second.has_value());
  if (first) { EXPECT_EQ(first->size(), second->size()); }
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
