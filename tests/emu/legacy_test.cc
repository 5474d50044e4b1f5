// SPDX-License-Identifier: Apache-2.0
// The legacy interface: its own registers, ring layout, header and interrupt line.
#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Legacy = vpci::Legacy;
constexpr std::uint64_t kMrg = vspec::mask_of(vspec::net_feature::kMrgRxbuf);

TEST(EmuLegacy, ASentFrameComesBackWithATenByteHeader) {
  each_run([] {
    TinyDriver driver(open_device("legacy,queue_size=16"), true);
    driver.bring_up();
    ASSERT_EQ(driver.header_bytes(), 10U);
    for (std::uint32_t i = 0; i < 40; ++i) {
      driver.send(make_frame(60 + i, i));
      EXPECT_EQ(driver.receive(), make_frame(60 + i, i));
    }
    EXPECT_EQ(driver.violations(), std::vector<std::string>());
  });
}

TEST(EmuLegacy, WithMergeableBuffersTheHeaderHasTwelveBytes) {
  each_run([] {
    TinyDriver driver(open_device("legacy,queue_size=16"), true);
    driver.bring_up(TinyDriver::kUsualLegacy | kMrg);
    ASSERT_EQ(driver.header_bytes(), 12U);
    driver.send(make_frame(64, 5));
    EXPECT_EQ(driver.receive(), make_frame(64, 5));
    EXPECT_EQ(driver.num_buffers(), 1);
    EXPECT_EQ(driver.violations(), std::vector<std::string>());
  });
}

TEST(EmuLegacy, NoModernFeatureIsOffered) {
  each_run([] {
    TinyDriver driver(open_device("legacy"), true);
    EXPECT_EQ(driver.features() >> 32, 0U);
    EXPECT_TRUE(driver.features() >> vspec::feature::kAnyLayout & 1U);
    EXPECT_EQ(driver.backend().bar(4).size, 0U) << "no modern registers";
    EXPECT_TRUE(driver.backend().bar(0).io);
  });
}

TEST(EmuLegacy, ConfigurationMovesWhenMsixIsEnabled) {
  each_run([] {
    TinyDriver driver(open_device("legacy,mac=02:11:22:33:44:55"), true);
    EXPECT_EQ(driver.backend().bar_read(0, vpci::kLegacyConfigOffset, 1), 0x02U);
    driver.enable_interrupts();
    EXPECT_EQ(driver.backend().bar_read(0, vpci::kLegacyConfigOffsetMsix, 1), 0x02U);
    driver.write<Legacy::ConfigMsixVector>(1);
    EXPECT_EQ(driver.read<Legacy::ConfigMsixVector>(), 1);
  });
}

TEST(EmuLegacy, WithoutMsixTheLineIsRaisedAndTheIsrSaysWhy) {
  each_run([] {
    TinyDriver driver(open_device("legacy,queue_size=16,vectors=0"), true);
    ASSERT_EQ(driver.backend().irqs().count(), 1U);
    driver.enable_interrupts(1);
    driver.bring_up();
    EXPECT_TRUE(driver.read_config(0, 1) == 0x02U);
    driver.send(make_frame(64, 3));
    EXPECT_EQ(driver.receive(), make_frame(64, 3));
    EXPECT_EQ(driver.read<Legacy::IsrStatus>() & vpci::kIsrQueue, vpci::kIsrQueue);
    EXPECT_EQ(driver.violations(), std::vector<std::string>());
  });
}

TEST(EmuLegacy, WithoutAnyLayoutTheHeaderNeedsItsOwnDescriptor) {
  each_run([] {
    TinyDriver driver(open_device("legacy,queue_size=16"), true);
    driver.bring_up(TinyDriver::kUsualLegacy & ~vspec::mask_of(vspec::feature::kAnyLayout));
    driver.send(make_frame(64, 3));
    EXPECT_EQ(driver.receive(), make_frame(64, 3));
    ASSERT_EQ(driver.violations().size(), 1U);
    EXPECT_NE(driver.violations()[0].find("ANY_LAYOUT"), std::string::npos);
  });
}

TEST(EmuLegacy, TheAddressReadsBackAndZeroTakesTheQueueAway) {
  each_run([] {
    TinyDriver driver(open_device("legacy,queue_size=16"), true);
    driver.bring_up_to_queues(TinyDriver::kUsualLegacy);
    driver.write<Legacy::QueueSelect>(1);
    EXPECT_EQ(driver.read<Legacy::QueueAddress>(), driver.queue(1).memory->iova() >> 12);
    driver.write<Legacy::QueueAddress>(0);
    EXPECT_EQ(driver.read<Legacy::QueueAddress>(), 0U);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
