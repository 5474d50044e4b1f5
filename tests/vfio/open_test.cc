// SPDX-License-Identifier: Apache-2.0
// Opening: what sysfs, the group and the IOMMU say, and what is made of it.
#include <cerrno>

#include "tests/vfio/support.h"
#include "vfio/info.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using testing::HasSubstr;

using VfioOpen = VfioTest;

TEST_F(VfioOpen, OpensAndLeavesNothingBehind) {
  auto backend = open();
  ASSERT_TRUE(backend);
  EXPECT_EQ(backend->name(), "0000:01:00.0");
  EXPECT_EQ(backend->node(), 0);
  EXPECT_EQ(backend->config_read(0, 2), 0x1af4U);
  EXPECT_TRUE(backend->control().present());
  EXPECT_EQ(function.command() & 3, 3) << "memory and port decoding are on";
}

TEST_F(VfioOpen, AnAbsentFunctionIsUnavailable) {
  const auto backend = try_open("0000:09:00.0");
  ASSERT_FALSE(backend);
  EXPECT_EQ(backend.error().code, Errc::kUnavailable);
  EXPECT_EQ(backend.error().sys_errno, ENOENT);
  EXPECT_THAT(backend.error().advice, HasSubstr("upci list"));
}

TEST_F(VfioOpen, AFunctionOfAnotherDriverIsToBeBoundFirst) {
  for (const char* driver : {"virtio-pci", ""}) {
    function.driver = driver;
    const auto backend = try_open();
    ASSERT_FALSE(backend);
    EXPECT_EQ(backend.error().code, Errc::kUnavailable);
    EXPECT_THAT(backend.error().message(), HasSubstr(*driver != '\0' ? "bound to virtio-pci" : "bound to no driver"));
    EXPECT_EQ(backend.error().advice, "upci bind 0000:01:00.0");
  }
}

TEST_F(VfioOpen, WithoutAnIommuItSaysSo) {
  function.group = "";
  const auto backend = try_open();
  ASSERT_FALSE(backend);
  EXPECT_THAT(backend.error().message(), HasSubstr("in no IOMMU group"));
  EXPECT_THAT(backend.error().advice, HasSubstr("intel_iommu=on"));
}

TEST_F(VfioOpen, AGroupThatIsNotViableNamesWhoHoldsIt) {
  kernel->add("0000:01:00.1").driver = "e1000e";
  kernel->add("0000:00:1e.0").driver = "shpchp";
  kernel->add("0000:00:1f.0").driver = "pcieport";
  kernel->add("0000:01:00.2").driver = "";
  const auto backend = try_open();
  ASSERT_FALSE(backend);
  EXPECT_EQ(backend.error().code, Errc::kUnavailable);
  EXPECT_THAT(backend.error().message(), HasSubstr("0000:01:00.1 is bound to e1000e"));
  EXPECT_THAT(backend.error().message(), HasSubstr("0000:00:1e.0 is bound to shpchp"));
  EXPECT_THAT(backend.error().message(), testing::Not(HasSubstr("pcieport")));
  EXPECT_THAT(backend.error().advice, HasSubstr("upci bind 0000:01:00.1;"));
  EXPECT_THAT(backend.error().advice, HasSubstr("echo 0000:00:1e.0 > /sys/bus/pci/drivers/shpchp/unbind"));
}

TEST_F(VfioOpen, OnlyTheBridgesHotplugDriverIsInTheWay) {
  kernel->add("0000:00:1e.0").driver = "shpchp";
  const auto backend = try_open();
  ASSERT_FALSE(backend);
  EXPECT_THAT(backend.error().advice, testing::StartsWith("let the bridge's hotplug driver go"));
}

TEST_F(VfioOpen, WithoutInterruptRemappingTheParameterIsNamed) {
  kernel->interrupt_remapping = false;
  const auto backend = try_open();
  ASSERT_FALSE(backend);
  EXPECT_EQ(backend.error().code, Errc::kUnavailable);
  EXPECT_EQ(backend.error().sys_errno, EPERM);
  EXPECT_THAT(backend.error().message(), HasSubstr("VFIO_SET_IOMMU"));
  EXPECT_THAT(backend.error().advice, HasSubstr("allow_unsafe_interrupts=1"));
  EXPECT_THAT(backend.error().advice, HasSubstr("interrupt remapping"));
}

TEST_F(VfioOpen, TheGroupsFileHasItsOwnAdviceForEachErrno) {
  const std::vector<std::pair<int, const char*>> cases = {
      {EBUSY, "another program"}, {EACCES, "chown"}, {ENOENT, "upci bind 0000:01:00.0"}, {EMFILE, "ulimit -n"}};
  for (const auto& [error, advice] : cases) {
    kernel->refusals = {{"open /dev/vfio/7", error}};
    const auto backend = try_open();
    ASSERT_FALSE(backend);
    EXPECT_EQ(backend.error().sys_errno, error);
    EXPECT_THAT(backend.error().message(), HasSubstr("open(/dev/vfio/7)"));
    EXPECT_THAT(backend.error().advice, HasSubstr(advice));
  }
}

TEST_F(VfioOpen, FunctionsOfAGroupShareItAndTheLastOneClosesIt) {
  kernel->add("0000:01:00.1");
  auto first = open();
  auto second = open("0000:01:00.1");
  ASSERT_TRUE(first && second);
  EXPECT_EQ(std::ranges::count(kernel->labels, "open /dev/vfio/7"), 1);
  EXPECT_EQ(std::ranges::count(kernel->labels, "VFIO_SET_IOMMU"), 1);
  first.reset();
  EXPECT_TRUE(second->control().present());
  second.reset();
  EXPECT_EQ(kernel->open_files(), 0U);
  // And it can be opened again at once.
  EXPECT_TRUE(open());
}

TEST_F(VfioOpen, AFunctionCannotBeOpenedTwice) {
  const auto first = open();
  const auto second = try_open();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().sys_errno, EBUSY);
  EXPECT_THAT(second.error().advice, HasSubstr("open already"));
  EXPECT_TRUE(first->control().present());
}

TEST_F(VfioOpen, AnOlderType1IsTaken) {
  kernel->type1v2 = false;
  EXPECT_TRUE(open());
}

TEST_F(VfioOpen, AnImpossibleIommuIsRefused) {
  kernel->iova_ranges = {{{0x5000, 0x4000}}};
  auto backend = try_open();
  ASSERT_FALSE(backend);
  EXPECT_THAT(backend.error().message(), HasSubstr("VFIO_IOMMU_GET_INFO"));
  kernel->iova_ranges = {std::vector<std::pair<std::uint64_t, std::uint64_t>>{}};
  EXPECT_FALSE(try_open());
  kernel->iova_ranges.reset();
  kernel->page_sizes = 0;
  EXPECT_FALSE(try_open());
  kernel->page_sizes = std::uint64_t{1} << 30;
  EXPECT_FALSE(try_open());
}

TEST_F(VfioOpen, AnInfoThatClaimsToBeEnormousIsRefused) {
  kernel->iova_ranges = {std::vector<std::pair<std::uint64_t, std::uint64_t>>(5000, {0x1000, 0x1fff})};
  const auto backend = try_open();
  ASSERT_FALSE(backend);
  EXPECT_EQ(backend.error().code, Errc::kDevice);
}

// --- The capability chain ---

constexpr std::size_t kFixed = 32;

struct Chain {
  std::vector<std::byte> bytes = std::vector<std::byte>(128);
  void put(std::size_t offset, std::uint16_t id, std::uint32_t next) {
    const vfio_info_cap_header header{.id = id, .version = 1, .next = next};
    std::memcpy(bytes.data() + offset, &header, sizeof(header));
  }
  auto find(std::uint32_t first, std::uint16_t id) const {
    return vfio::find_info_capability(bytes, kFixed, first, id, "CALL", "it");
  }
};

TEST(VfioInfo, FindsACapabilityBehindOthers) {
  Chain chain;
  chain.put(96, 3, 40);  // chains may lead backwards
  chain.put(40, 1, 0);
  const auto found = chain.find(96, 1);
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->data(), chain.bytes.data() + 40);
  EXPECT_EQ((*found)->size(), 88U);
  const auto absent = chain.find(96, 9);
  ASSERT_TRUE(absent);
  EXPECT_FALSE(*absent);
  EXPECT_FALSE(*chain.find(0, 1)) << "no chain at all";
}

TEST(VfioInfo, HostileOffsetsAreRefused) {
  Chain chain;
  for (const std::uint32_t first : {121U, 128U, 4096U, 0xfffffff8U, 0xffffffffU, 4U, 31U}) {
    const auto found = chain.find(first, 1);
    ASSERT_FALSE(found) << first;
    EXPECT_EQ(found.error().code, Errc::kDevice);
    EXPECT_THAT(found.error().message(), HasSubstr("CALL"));
  }
  chain.put(40, 7, 40);
  EXPECT_FALSE(chain.find(40, 1)) << "a loop of one";
  chain.put(40, 7, 64);
  chain.put(64, 8, 40);
  EXPECT_FALSE(chain.find(40, 1)) << "a loop of two";
  chain.put(64, 8, 125);
  EXPECT_FALSE(chain.find(40, 1)) << "the second one is cut off";
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
