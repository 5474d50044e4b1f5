// SPDX-License-Identifier: Apache-2.0
// The modern interface: handshake, configuration, frames.
#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Common = vpci::Common;

TEST(EmuModern, ASentFrameComesBackByInterrupt) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    for (std::uint32_t i = 0; i < 40; ++i) {
      const Frame frame = make_frame(60 + i, i);
      driver.send(frame);
      const auto back = driver.receive();
      ASSERT_TRUE(back) << "frame " << i;
      EXPECT_EQ(*back, frame);
      EXPECT_EQ(driver.num_buffers(), 1);
    }
    EXPECT_TRUE(driver.wait_for_transmit());
    EXPECT_EQ(driver.violations(), std::vector<std::string>());
    EXPECT_EQ(emu::frame_counts(driver.backend()).received, 40U);
  });
}

TEST(EmuModern, FramesComeBackInOrderWithEventIdx) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up(TinyDriver::kUsual | vspec::mask_of(vspec::feature::kEventIdx));
    // Interrupt after each used element: used_event follows what was seen.
    for (std::uint32_t i = 0; i < 40; ++i) {
      driver.set_used_event(vspec::net::kReceiveQueue, driver.queue(vspec::net::kReceiveQueue).used_seen);
      driver.send(make_frame(100, i));
      const auto back = driver.receive();
      ASSERT_TRUE(back) << "frame " << i;
      EXPECT_EQ(*back, make_frame(100, i));
    }
    EXPECT_EQ(driver.violations(), std::vector<std::string>());
  });
}

TEST(EmuModern, ResetTakesEffectAndClearsEverything) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    driver.reset();
    EXPECT_EQ(driver.read<Common::DriverFeature>(), 0U);
    EXPECT_EQ(driver.read<Common::QueueSelect>(), 0);
    for (std::uint16_t i = 0; i < 2; ++i) {
      driver.write<Common::QueueSelect>(i);
      EXPECT_EQ(driver.read<Common::QueueEnable>(), 0);
      EXPECT_EQ(driver.read<Common::QueueDescLow>(), 0U);
      EXPECT_EQ(driver.read<Common::QueueMsixVector>(), vpci::kNoVector);
      EXPECT_EQ(driver.read<Common::QueueSize>(), 256);
    }
    driver.bring_up();
    driver.send(make_frame(64, 1));
    EXPECT_EQ(driver.receive(), make_frame(64, 1));
    EXPECT_EQ(driver.violations(), std::vector<std::string>());
  });
}

TEST(EmuModern, FeaturesAreThoseThatTheModelKeeps) {
  each_run([] {
    TinyDriver driver(open_device("mtu=9000"));
    const std::uint64_t offered = driver.features();
    for (const unsigned bit : {vspec::feature::kVersion1, vspec::feature::kAccessPlatform, vspec::feature::kEventIdx,
                               vspec::feature::kIndirectDesc, vspec::net_feature::kMac, vspec::net_feature::kStatus,
                               vspec::net_feature::kMtu, vspec::net_feature::kMrgRxbuf}) {
      EXPECT_TRUE(offered >> bit & 1U) << "bit " << bit;
    }
    EXPECT_FALSE(offered >> vspec::feature::kAnyLayout & 1U) << "a legacy feature";
    driver.write<Common::DeviceFeatureSelect>(2);
    EXPECT_EQ(driver.read<Common::DeviceFeature>(), 0U);
    EXPECT_EQ(driver.read_config(vspec::net::config::kMtu, 2), 9000U);

    TinyDriver bare(open_device("mrg_rxbuf=off,event_idx=off,indirect_desc=off,access_platform=off"));
    EXPECT_EQ(bare.features(), vspec::mask_of(vspec::feature::kVersion1) | vspec::mask_of(vspec::net_feature::kMac) |
                                   vspec::mask_of(vspec::net_feature::kStatus));
  });
}

TEST(EmuModern, ConfigurationHoldsMacAndLink) {
  each_run([] {
    TinyDriver driver(open_device("mac=02:11:22:33:44:55,link=down"));
    EXPECT_EQ(driver.read_config(0, 1), 0x02U);
    EXPECT_EQ(driver.read_config(5, 1), 0x55U);
    EXPECT_EQ(driver.read_config(vspec::net::config::kStatus, 2), 0U);
    EXPECT_EQ(driver.read<Common::NumQueues>(), 2);
    driver.write<Common::QueueSelect>(2);
    EXPECT_EQ(driver.read<Common::QueueSize>(), 0) << "a queue that does not exist";
  });
}

TEST(EmuModern, ALinkChangeMovesTheGenerationAndInterrupts) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.enable_interrupts();
    driver.bring_up_to_queues(TinyDriver::kUsual);
    driver.write<Common::ConfigMsixVector>(0);
    EXPECT_EQ(driver.read<Common::ConfigMsixVector>(), 0);
    driver.add_status(vstatus::kDriverOk);
    const std::uint8_t generation = driver.read<Common::ConfigGeneration>();
    emu::set_link(driver.backend(), false);
    EXPECT_TRUE(driver.wait_for_interrupt(0));
    EXPECT_NE(driver.read<Common::ConfigGeneration>(), generation);
    EXPECT_EQ(driver.read_config(vspec::net::config::kStatus, 2), 0U);
    EXPECT_EQ(driver.backend().bar_read(4, 0x1000, 1), vpci::kIsrConfig);
    EXPECT_EQ(driver.backend().bar_read(4, 0x1000, 1), 0U) << "reading clears it";
  });
}

TEST(EmuModern, WithoutALinkAFrameIsCountedAsDropped) {
  each_run([] {
    TinyDriver driver(open_device("link=down"));
    driver.bring_up();
    driver.send(make_frame(64, 1));
    EXPECT_TRUE(driver.wait_for_transmit());
    EXPECT_EQ(emu::frame_counts(driver.backend()).dropped, 1U);
    EXPECT_EQ(emu::frame_counts(driver.backend()).sent, 0U);
  });
}

TEST(EmuModern, ATransitionalDeviceAnswersOnBothInterfaces) {
  each_run([] {
    for (const bool legacy : {false, true}) {
      TinyDriver driver(open_device("transitional,queue_size=16"), legacy);
      driver.bring_up();
      driver.send(make_frame(64, 7));
      EXPECT_EQ(driver.receive(), make_frame(64, 7)) << "legacy " << legacy;
      EXPECT_EQ(driver.violations(), std::vector<std::string>());
    }
  });
}

TEST(EmuModern, WithoutAccessPlatformTheDeviceTakesPhysicalAddresses) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up(TinyDriver::kUsual & ~vspec::mask_of(vspec::feature::kAccessPlatform));
    driver.send(make_frame(64, 1));
    EXPECT_EQ(driver.receive(), make_frame(64, 1));
    EXPECT_EQ(driver.violations(), std::vector<std::string>());
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
