// SPDX-License-Identifier: Apache-2.0
// The PCI config space of an emulated device.
#include <map>

#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

constexpr std::uint8_t kExpress = 0x10, kMsix = 0x11;

std::map<std::uint8_t, std::vector<std::uint8_t>> capabilities(pci::Backend& device) {
  std::map<std::uint8_t, std::vector<std::uint8_t>> found;
  auto at = static_cast<std::uint16_t>(device.config_read(0x34, 1));
  for (int i = 0; at != 0 && i < 48; ++i) {
    found[static_cast<std::uint8_t>(device.config_read(at, 1))].push_back(static_cast<std::uint8_t>(at));
    at = static_cast<std::uint16_t>(device.config_read(static_cast<std::uint16_t>(at + 1), 1));
  }
  EXPECT_EQ(at, 0) << "the list ends";
  return found;
}

std::uint8_t virtio_capability(pci::Backend& device, vpci::CapType type) {
  auto found = capabilities(device);
  for (const std::uint8_t at : found[vpci::kVendorCapability]) {
    if (device.config_read(static_cast<std::uint16_t>(at + vpci::cap::kType), 1) == static_cast<std::uint8_t>(type)) {
      return at;
    }
  }
  return 0;
}

std::uint32_t read32(pci::Backend& device, int offset) {
  return device.config_read(static_cast<std::uint16_t>(offset), 4);
}
void write32(pci::Backend& device, int offset, std::uint32_t value) {
  device.config_write(static_cast<std::uint16_t>(offset), 4, value);
}

TEST(EmuConfigSpace, IdsAreThoseOfTheInterface) {
  each_run(
      [] {
        const struct {
          std::string_view words;
          std::uint32_t device, revision;
        } cases[] = {{"modern", 0x1041, 1}, {"legacy", 0x1000, 0}, {"transitional", 0x1000, 0}};
        for (const auto& one : cases) {
          auto device = open_device(one.words);
          ASSERT_NE(device, nullptr);
          EXPECT_EQ(device->config_read(0, 2), vpci::kVendor);
          EXPECT_EQ(device->config_read(2, 2), one.device) << one.words;
          EXPECT_EQ(device->config_read(8, 1), one.revision) << one.words;
          EXPECT_EQ(read32(*device, 8) >> 8, 0x020000U);
          const bool subsystem_is_type = device->config_read(0x2e, 2) == 1;
          EXPECT_EQ(subsystem_is_type, one.device == 0x1000) << one.words;
        }
      },
      1);
}

TEST(EmuConfigSpace, AModernDeviceHasEveryVirtioCapabilityInsideItsBar) {
  each_run(
      [] {
        auto device = open_device();
        ASSERT_NE(device, nullptr);
        for (const auto type :
             {vpci::CapType::kCommon, vpci::CapType::kNotify, vpci::CapType::kIsr, vpci::CapType::kDevice}) {
          const int at = virtio_capability(*device, type);
          ASSERT_NE(at, 0);
          const std::uint64_t bar = device->config_read(static_cast<std::uint16_t>(at + vpci::cap::kBar), 1);
          const std::uint64_t end =
              std::uint64_t{read32(*device, at + vpci::cap::kOffset)} + read32(*device, at + vpci::cap::kStructLength);
          EXPECT_LE(end, device->bar(static_cast<unsigned>(bar)).size);
        }
        EXPECT_NE(virtio_capability(*device, vpci::CapType::kPci), 0);
        EXPECT_EQ(capabilities(*device)[kExpress].size(), 1U);
        EXPECT_EQ(capabilities(*device)[kMsix].size(), 1U);

        auto legacy = open_device("legacy,vectors=0");
        ASSERT_NE(legacy, nullptr);
        EXPECT_TRUE(capabilities(*legacy)[vpci::kVendorCapability].empty());
        EXPECT_TRUE(capabilities(*legacy)[kMsix].empty());
      },
      1);
}

TEST(EmuConfigSpace, WritingOnesToABarShowsItsSize) {
  each_run(
      [] {
        auto device = open_device("transitional");
        ASSERT_NE(device, nullptr);
        for (unsigned bar = 0; bar < 6; ++bar) {
          const int at = 0x10 + 4 * static_cast<int>(bar);
          const std::uint32_t before = read32(*device, at);
          write32(*device, at, 0xffff'ffff);
          const std::uint32_t ones = read32(*device, at);
          write32(*device, at, before);
          const std::uint32_t flags = device->bar(bar).io ? 0x3 : 0xf;
          const std::uint32_t size = ones == 0 ? 0 : ~(ones & ~flags) + 1;
          EXPECT_EQ(size, device->bar(bar).size) << "BAR " << bar;
          EXPECT_EQ(read32(*device, at), before);
        }
      },
      1);
}

TEST(EmuConfigSpace, ReadOnlyFieldsStayAndTheRestOfTheSpaceIsEmpty) {
  each_run(
      [] {
        auto device = open_device();
        ASSERT_NE(device, nullptr);
        write32(*device, 0, 0);
        EXPECT_EQ(device->config_read(0, 2), vpci::kVendor);
        EXPECT_EQ(read32(*device, 0x100), 0U) << "no extended capability";
        EXPECT_EQ(read32(*device, 0xffc), 0U);
        EXPECT_EQ(device->config_read(4096, 2), 0xffffU);
      },
      1);
}

TEST(EmuConfigSpace, WithoutDecodingTheBarsReadAllOnes) {
  each_run(
      [] {
        auto device = open_device("transitional");
        ASSERT_NE(device, nullptr);
        device->config_write(4, 2, 0);
        EXPECT_EQ(device->bar_read(4, vpci::Common::NumQueues::offset, 2), 0xffffU);
        EXPECT_EQ(device->bar_read(0, vpci::Legacy::DeviceStatus::offset, 1), 0xffU);
        device->config_write(4, 2, 2);
        EXPECT_EQ(device->bar_read(4, vpci::Common::NumQueues::offset, 2), 2U);
        EXPECT_EQ(device->bar_read(0, vpci::Legacy::DeviceStatus::offset, 1), 0xffU) << "port space has its own bit";
      },
      1);
}

TEST(EmuConfigSpace, RegistersCanBeReachedThroughTheConfigSpace) {
  each_run(
      [] {
        auto device = open_device();
        ASSERT_NE(device, nullptr);
        const int at = virtio_capability(*device, vpci::CapType::kPci);
        device->config_write(static_cast<std::uint16_t>(at + vpci::cap::kBar), 1, 4);
        write32(*device, at + vpci::cap::kOffset, vpci::Common::NumQueues::offset);
        write32(*device, at + vpci::cap::kStructLength, 2);
        const auto data = static_cast<std::uint16_t>(at + vpci::cap::kPciData);
        EXPECT_EQ(device->config_read(data, 2), 2U);
        write32(*device, at + vpci::cap::kOffset, vpci::Common::QueueSelect::offset);
        device->config_write(data, 2, 1);
        EXPECT_EQ(device->bar_read(4, vpci::Common::QueueSelect::offset, 2), 1U);
        // Beyond the BAR there is nothing to reach.
        write32(*device, at + vpci::cap::kOffset, 0xffff'fffe);
        device->config_write(data, 2, 1);
        EXPECT_EQ(device->config_read(data, 2), 0U);
        EXPECT_EQ(emu::violations(*device), std::vector<std::string>());
      },
      1);
}

TEST(EmuConfigSpace, InitiateFlrResetsTheFunction) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    const auto express = capabilities(driver.backend())[kExpress].at(0);
    EXPECT_NE(read32(driver.backend(), express + 4) & 0x1000'0000U, 0U) << "it says that it can";
    driver.backend().config_write(static_cast<std::uint16_t>(express + 8), 2, 0x8000);
    EXPECT_EQ(driver.backend().config_read(4, 2) & 7U, 0U) << "decoding and bus mastering are off after it";
    driver.backend().config_write(4, 2, 3);
    EXPECT_EQ(driver.status(), 0);
    EXPECT_EQ(driver.read<vpci::Common::QueueEnable>(), 0);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
