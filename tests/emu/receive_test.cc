// SPDX-License-Identifier: Apache-2.0
// How frames are put into the driver's buffers, and what happens while there are none.
#include <cstring>

#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

constexpr std::uint16_t kRx = vspec::net::kReceiveQueue;
constexpr std::uint16_t kTx = vspec::net::kTransmitQueue;
constexpr std::uint64_t kMrg = vspec::mask_of(vspec::net_feature::kMrgRxbuf);

TEST(EmuReceive, FramesWaitForBuffersAndNoneIsLost) {
  each_run(
      [] {
        TinyDriver driver(open_device());
        driver.bring_up(TinyDriver::kUsual, 0);
        constexpr std::uint32_t kFrames = 100;
        for (std::uint32_t i = 0; i < kFrames; ++i) {
          driver.send(make_frame(64, i));
          ASSERT_TRUE(driver.wait_for_transmit()) << "frame " << i;
        }
        EXPECT_EQ(driver.used_index(kRx), 0);
        driver.offer_receive_buffers(TinyDriver::kSize);
        for (std::uint32_t i = 0; i < kFrames; ++i) ASSERT_EQ(driver.receive(), make_frame(64, i)) << "frame " << i;
        EXPECT_EQ(driver.violations(), std::vector<std::string>());
      },
      5);
}

#if !defined(UPCI_SIM)
// Thousands of frames: a matter of seconds for each seed of a simulation.
TEST(EmuReceive, WhenTheLoopbackWireIsFullTheTransmitQueueWaits) {
  TinyDriver driver(open_device());
  driver.bring_up(TinyDriver::kUsual, 0);
  constexpr std::uint32_t kHeld = 4096;
  for (std::uint32_t i = 0; i < kHeld; ++i) {
    driver.send(make_frame(64, i));
    ASSERT_TRUE(driver.wait_for_transmit()) << "frame " << i;
  }
  for (std::uint32_t i = 0; i < TinyDriver::kSize; ++i) driver.send(make_frame(64, kHeld + i));
  driver.offer_receive_buffers(TinyDriver::kSize);
  for (std::uint32_t i = 0; i < kHeld + TinyDriver::kSize; ++i) {
    ASSERT_EQ(driver.receive(), make_frame(64, i)) << "frame " << i;
  }
  EXPECT_TRUE(driver.wait_for_transmit());
  EXPECT_EQ(emu::frame_counts(driver.backend()).dropped, 0U);
}
#endif

TEST(EmuReceive, MergeableBuffersTakeAFrameInParts) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up(TinyDriver::kUsual | kMrg, 0);
    // 3 buffers of 100 bytes for 12 + 250.
    for (std::uint16_t i = 0; i < 3; ++i) {
      driver.set_descriptor(
          kRx, i,
          {.addr = driver.queue(kRx).buffers->iova() + 100ULL * i, .len = 100, .flags = vring::kDescWrite, .next = 0});
      driver.make_available(kRx, i);
    }
    const Frame frame = make_frame(250, 9);
    driver.send(frame);
    ASSERT_TRUE(eventually([&] { return driver.used_index(kRx) != 0; }));
    ASSERT_EQ(driver.used_index(kRx), 3) << "all parts appear at once";
    EXPECT_EQ(driver.used_element(kRx, 0).len, 100U);
    EXPECT_EQ(driver.used_element(kRx, 1).len, 100U);
    EXPECT_EQ(driver.used_element(kRx, 2).len, 62U);
    const std::byte* const memory = driver.queue(kRx).buffers->va();
    std::uint16_t buffers = 0;
    std::memcpy(&buffers, memory + 10, sizeof(buffers));
    EXPECT_EQ(buffers, 3);
    EXPECT_EQ(std::memcmp(memory + 12, frame.data(), frame.size()), 0);
    EXPECT_EQ(driver.violations(), std::vector<std::string>());
  });
}

TEST(EmuReceive, TooFewMergeableBuffersAreLeftAloneUntilThereAreMore) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up(TinyDriver::kUsual | kMrg, 0);
    const auto offer = [&](std::uint16_t i) {
      driver.set_descriptor(
          kRx, i,
          {.addr = driver.queue(kRx).buffers->iova() + 100ULL * i, .len = 100, .flags = vring::kDescWrite, .next = 0});
      driver.make_available(kRx, i);
    };
    offer(0);
    driver.send(make_frame(150, 9));
    ASSERT_TRUE(driver.wait_for_transmit());
    EXPECT_EQ(emu::frame_counts(driver.backend()).received, 0U);
    EXPECT_EQ(driver.used_index(kRx), 0);
    offer(1);
    ASSERT_TRUE(eventually([&] { return driver.used_index(kRx) == 2; }));
    EXPECT_EQ(driver.used_element(kRx, 1).len, 62U);
  });
}

TEST(EmuReceive, ABufferTooSmallForAFrameIsAViolationAndTheBufferStays) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up(TinyDriver::kUsual, 0);
    driver.set_descriptor(
        kRx, 0, {.addr = driver.queue(kRx).buffers->iova(), .len = 32, .flags = vring::kDescWrite, .next = 0});
    driver.make_available(kRx, 0);
    driver.send(make_frame(64, 9));
    ASSERT_TRUE(eventually([&] { return !driver.violations().empty(); }));
    EXPECT_NE(driver.violations()[0].find("too small"), std::string::npos);
    EXPECT_EQ(driver.used_index(kRx), 0);
    EXPECT_TRUE(eventually([&] { return emu::frame_counts(driver.backend()).dropped == 1; }));
  });
}

TEST(EmuReceive, AFrameMayLieInSeveralDescriptorsOfBothKinds) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up(TinyDriver::kUsual | vspec::mask_of(vspec::feature::kIndirectDesc), 0);
    const Frame frame = make_frame(120, 4);
    // Receive: a chain of header, 50 bytes, the rest.
    const std::uint64_t rx = driver.queue(kRx).buffers->iova();
    driver.set_descriptor(kRx, 3, {.addr = rx, .len = 12, .flags = vring::kDescWrite | vring::kDescNext, .next = 7});
    driver.set_descriptor(kRx, 7,
                          {.addr = rx + 12, .len = 50, .flags = vring::kDescWrite | vring::kDescNext, .next = 1});
    driver.set_descriptor(kRx, 1, {.addr = rx + 62, .len = 1500, .flags = vring::kDescWrite, .next = 0});
    driver.make_available(kRx, 3);
    // Transmit: an indirect table of two, at the end of the buffer memory.
    std::byte* const memory = driver.queue(kTx).buffers->va();
    const std::uint64_t tx = driver.queue(kTx).buffers->iova();
    std::memset(memory, 0, 12);
    std::memcpy(memory + 12, frame.data(), frame.size());
    const vring::Descriptor table[] = {{.addr = tx, .len = 40, .flags = vring::kDescNext, .next = 1},
                                       {.addr = tx + 40, .len = 92, .flags = 0, .next = 0}};
    std::memcpy(memory + 4096, table, sizeof(table));
    driver.set_descriptor(kTx, 0, {.addr = tx + 4096, .len = sizeof(table), .flags = vring::kDescIndirect, .next = 0});
    driver.make_available(kTx, 0);

    ASSERT_TRUE(eventually([&] { return driver.used_index(kRx) == 1; }));
    EXPECT_EQ(driver.used_element(kRx, 0).id, 3U) << "the chain's head";
    EXPECT_EQ(driver.used_element(kRx, 0).len, 132U);
    EXPECT_EQ(std::memcmp(driver.queue(kRx).buffers->va() + 12, frame.data(), frame.size()), 0);
    EXPECT_EQ(driver.violations(), std::vector<std::string>());
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
