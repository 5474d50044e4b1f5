// SPDX-License-Identifier: Apache-2.0
// What a driver does against the specification is seen. Each test does one thing wrong.
#include <bit>
#include <functional>

#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Common = vpci::Common;
constexpr std::uint16_t kTx = vspec::net::kTransmitQueue;

/// Expects exactly one violation, which says `word`.
void expect_violation(TinyDriver& driver, std::string_view word) {
  EXPECT_TRUE(eventually([&] { return !driver.violations().empty(); })) << "not seen: " << word;
  const auto seen = driver.violations();
  ASSERT_EQ(seen.size(), 1U) << testing::PrintToString(seen);
  EXPECT_NE(seen[0].find(word), std::string::npos) << seen[0];
}

/// Does `wrong` to a device that was reset.
void after_reset(std::string_view word, const std::function<void(TinyDriver&)>& wrong) {
  each_run(
      [&] {
        TinyDriver driver(open_device());
        driver.reset();
        driver.master();
        wrong(driver);
        expect_violation(driver, word);
      },
      3);
}

/// Does `wrong` to a device with both queues, before DRIVER_OK.
void before_driver_ok(std::string_view word, const std::function<void(TinyDriver&)>& wrong) {
  each_run(
      [&] {
        TinyDriver driver(open_device());
        driver.bring_up_to_queues(TinyDriver::kUsual);
        wrong(driver);
        expect_violation(driver, word);
      },
      3);
}

/// Does `wrong` to a device that runs.
void when_live(std::string_view word, const std::function<void(TinyDriver&)>& wrong) {
  each_run([&] {
    TinyDriver driver(open_device());
    driver.bring_up();
    wrong(driver);
    expect_violation(driver, word);
  });
}

TEST(EmuStrictness, DriverWithoutAcknowledge) {
  after_reset("DRIVER without ACKNOWLEDGE", [](TinyDriver& driver) { driver.set_status(vstatus::kDriver); });
}
TEST(EmuStrictness, ClearingStatusBits) {
  after_reset("bits are cleared", [](TinyDriver& driver) {
    driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
    driver.set_status(vstatus::kAcknowledge);
  });
}
TEST(EmuStrictness, DriverOkWithoutFeaturesOkIsNotTaken) {
  after_reset("DRIVER_OK without FEATURES_OK", [](TinyDriver& driver) {
    driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
    driver.add_status(vstatus::kDriverOk);
    EXPECT_EQ(driver.status() & vstatus::kDriverOk, 0);
  });
}
TEST(EmuStrictness, SettingNeedsReset) {
  after_reset("DEVICE_NEEDS_RESET", [](TinyDriver& driver) {
    driver.set_status(vstatus::kAcknowledge | vstatus::kNeedsReset);
    EXPECT_EQ(driver.status(), vstatus::kAcknowledge);
  });
}
TEST(EmuStrictness, FeaturesBeforeDriver) {
  after_reset("before DRIVER", [](TinyDriver& driver) { driver.write<Common::DriverFeature>(0); });
}
TEST(EmuStrictness, FeaturesAfterFeaturesOk) {
  before_driver_ok("after FEATURES_OK", [](TinyDriver& driver) { driver.write<Common::DriverFeature>(0); });
}
TEST(EmuStrictness, AcceptingWhatWasNotOfferedIsRefused) {
  after_reset("not offered", [](TinyDriver& driver) {
    driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
    driver.set_features(TinyDriver::kUsual | vspec::mask_of(vspec::feature::kRingPacked));
    driver.add_status(vstatus::kFeaturesOk);
    EXPECT_EQ(driver.status() & vstatus::kFeaturesOk, 0);
  });
}
TEST(EmuStrictness, DecliningVersion1IsRefused) {
  after_reset("VERSION_1", [](TinyDriver& driver) {
    driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
    driver.set_features(vspec::mask_of(vspec::net_feature::kMac));
    driver.add_status(vstatus::kFeaturesOk);
    EXPECT_EQ(driver.status() & vstatus::kFeaturesOk, 0);
  });
}
TEST(EmuStrictness, QueuesBeforeFeaturesOk) {
  after_reset("before FEATURES_OK", [](TinyDriver& driver) {
    driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
    driver.write<Common::QueueSize>(16);
  });
}
TEST(EmuStrictness, QueuesAfterDriverOk) {
  when_live("after DRIVER_OK", [](TinyDriver& driver) { driver.write<Common::QueueSize>(16); });
}
TEST(EmuStrictness, ChangingAnEnabledQueue) {
  before_driver_ok("while the queue is enabled", [](TinyDriver& driver) { driver.write<Common::QueueDescLow>(4096); });
}
TEST(EmuStrictness, AQueueThatDoesNotExist) {
  before_driver_ok("does not exist", [](TinyDriver& driver) {
    driver.write<Common::QueueSelect>(7);
    driver.write<Common::QueueSize>(16);
  });
}
TEST(EmuStrictness, ARingOutsideOfMemoryIsNotEnabled) {
  each_run(
      [] {
        TinyDriver driver(open_device());
        driver.reset();
        driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
        driver.set_features(TinyDriver::kUsual);
        driver.add_status(vstatus::kFeaturesOk);
        driver.write<Common::QueueDescLow>(0x4000);
        driver.write<Common::QueueDriverLow>(0x5000);
        driver.write<Common::QueueDeviceLow>(0x6000);
        driver.write<Common::QueueEnable>(1);
        expect_violation(driver, "not mapped");
        EXPECT_EQ(driver.read<Common::QueueEnable>(), 0);
      },
      3);
}
TEST(EmuStrictness, AQueueSizeThatIsNoPowerOfTwo) {
  after_reset("queue_size 12", [](TinyDriver& driver) {
    driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
    driver.set_features(TinyDriver::kUsual);
    driver.add_status(vstatus::kFeaturesOk);
    driver.write<Common::QueueSize>(12);
  });
}
TEST(EmuStrictness, WritingZeroToQueueEnable) {
  before_driver_ok("queue_enable", [](TinyDriver& driver) { driver.write<Common::QueueEnable>(0); });
}
TEST(EmuStrictness, NotifyingBeforeDriverOk) {
  before_driver_ok("before DRIVER_OK", [](TinyDriver& driver) { driver.notify(kTx); });
}
TEST(EmuStrictness, NotifyingADisabledQueue) {
  after_reset("not enabled", [](TinyDriver& driver) { driver.notify(kTx); });
}
TEST(EmuStrictness, NotifyingAtAnotherQueuesAddress) {
  when_live("is notified at", [](TinyDriver& driver) { driver.backend().bar_write(4, 0x3000, 2, 1); });
}
TEST(EmuStrictness, NotifyingWhileBusMasteringIsOff) {
  when_live("bus mastering is off", [](TinyDriver& driver) {
    driver.master(false);
    driver.notify(kTx);
  });
}
TEST(EmuStrictness, AnAccessOfAnotherWidthThanTheFields) {
  after_reset("no field to read",
              [](TinyDriver& driver) { EXPECT_EQ(driver.backend().bar_read(4, 0x14, 4), 0xffff'ffffU); });
}
TEST(EmuStrictness, WritingAfterAResetThatHasNotEnded) {
  each_run(
      [] {
        TinyDriver driver(open_device("fault=status-stuck"));
        driver.set_status(0);
        driver.set_status(vstatus::kAcknowledge);
        expect_violation(driver, "before the reset has ended");
      },
      3);
}
TEST(EmuStrictness, WritingReadOnlyConfiguration) {
  after_reset("read-only", [](TinyDriver& driver) { driver.backend().bar_write(4, 0x2000, 1, 0); });
}
TEST(EmuStrictness, MixingTheInterfaces) {
  each_run(
      [] {
        TinyDriver driver(open_device("transitional"));
        driver.reset();
        driver.set_status(vstatus::kAcknowledge);
        driver.backend().bar_write(0, vpci::Legacy::DeviceStatus::offset, 1, vstatus::kAcknowledge | vstatus::kDriver);
        expect_violation(driver, "other interface");
      },
      3);
}

// In memory: the device stops and asks to be reset.

void breaks_the_device(std::string_view word, const std::function<void(TinyDriver&)>& wrong,
                       std::uint64_t features = TinyDriver::kUsual, std::string_view words = "") {
  each_run([&] {
    TinyDriver driver(open_device(words));
    driver.bring_up(features);
    wrong(driver);
    expect_violation(driver, word);
    EXPECT_TRUE(driver.status() & vstatus::kNeedsReset);
    EXPECT_EQ(driver.used_index(kTx), 0) << "nothing came of it";
    driver.bring_up(TinyDriver::kUsual);
    driver.send(make_frame(64, 1));
    EXPECT_EQ(driver.receive(), make_frame(64, 1)) << "a reset helps";
  });
}

void send_descriptor(TinyDriver& driver, const vring::Descriptor& descriptor) {
  driver.set_descriptor(kTx, 0, descriptor);
  driver.make_available(kTx, 0);
}

TEST(EmuStrictness, ABufferThatIsAPointerOfTheProcess) {
  breaks_the_device("an address of the process", [](TinyDriver& driver) {
    const std::uint64_t va = std::bit_cast<std::uintptr_t>(driver.queue(kTx).buffers->va());
    send_descriptor(driver, {.addr = va, .len = 76, .flags = 0, .next = 0});
  });
}
TEST(EmuStrictness, ABufferThatEndsBeyondItsMemory) {
  breaks_the_device("not mapped", [](TinyDriver& driver) {
    send_descriptor(driver, {.addr = driver.queue(kTx).buffers->iova(),
                             .len = TinyDriver::kSize * TinyDriver::kBuffer + 1,
                             .flags = 0,
                             .next = 0});
  });
}
TEST(EmuStrictness, ABufferThatWasFreed) {
  breaks_the_device("not mapped", [](TinyDriver& driver) {
    const std::uint64_t iova = driver.queue(kTx).buffers->iova();
    driver.queue(kTx).buffers.reset();
    send_descriptor(driver, {.addr = iova, .len = 76, .flags = 0, .next = 0});
  });
}
TEST(EmuStrictness, ARingThatWasFreed) {
  breaks_the_device("not mapped", [](TinyDriver& driver) {
    auto ring = std::move(driver.queue(kTx).memory);
    auto other = driver.backend().dma().alloc({.len = ring->size()});
    ASSERT_TRUE(other);
    ring.reset();
    driver.queue(kTx).memory = std::move(*other);
    driver.notify(kTx);
  });
}
TEST(EmuStrictness, AChainThatIsALoop) {
  breaks_the_device("loop", [](TinyDriver& driver) {
    send_descriptor(driver,
                    {.addr = driver.queue(kTx).buffers->iova(), .len = 1, .flags = vring::kDescNext, .next = 0});
  });
}
TEST(EmuStrictness, AChainThatLeavesTheTable) {
  breaks_the_device("goes on at", [](TinyDriver& driver) {
    send_descriptor(driver,
                    {.addr = driver.queue(kTx).buffers->iova(), .len = 1, .flags = vring::kDescNext, .next = 16});
  });
}
TEST(EmuStrictness, AChainOutOfSequenceWithInOrder) {
  const auto skips_one = [](TinyDriver& driver) {
    const std::uint64_t iova = driver.queue(kTx).buffers->iova();
    driver.set_descriptor(kTx, 2, {.addr = iova, .len = 64, .flags = 0, .next = 0});
    send_descriptor(driver, {.addr = iova, .len = 12, .flags = vring::kDescNext, .next = 2});
  };
  breaks_the_device("IN_ORDER", skips_one, TinyDriver::kUsual | vspec::mask_of(vspec::feature::kInOrder),
                    "in_order=on");
}
TEST(EmuStrictness, AHeadBeyondTheQueue) {
  breaks_the_device("names descriptor", [](TinyDriver& driver) { driver.make_available(kTx, TinyDriver::kSize); });
}
TEST(EmuStrictness, AnAvailableIndexThatJumps) {
  breaks_the_device("avail idx", [](TinyDriver& driver) {
    driver.queue(kTx).avail_index = TinyDriver::kSize;
    driver.make_available(kTx, 0);
  });
}
TEST(EmuStrictness, AnIndirectTableWithoutTheFeature) {
  breaks_the_device("indirect", [](TinyDriver& driver) {
    send_descriptor(driver,
                    {.addr = driver.queue(kTx).buffers->iova(), .len = 32, .flags = vring::kDescIndirect, .next = 0});
  });
}
TEST(EmuStrictness, AnIndirectTableOfABrokenSize) {
  breaks_the_device(
      "indirect",
      [](TinyDriver& driver) {
        send_descriptor(
            driver, {.addr = driver.queue(kTx).buffers->iova(), .len = 33, .flags = vring::kDescIndirect, .next = 0});
      },
      TinyDriver::kUsual | vspec::mask_of(vspec::feature::kIndirectDesc));
}

// Frames.

TEST(EmuStrictness, AFrameWithoutAHeaderIsDropped) {
  when_live("a frame to send of 20 bytes", [](TinyDriver& driver) {
    send_descriptor(driver, {.addr = driver.queue(kTx).buffers->iova(), .len = 20, .flags = 0, .next = 0});
    EXPECT_TRUE(eventually([&] { return driver.used_index(kTx) == 1; })) << "its buffer comes back";
    EXPECT_EQ(emu::frame_counts(driver.backend()).dropped, 1U);
  });
}
TEST(EmuStrictness, AFrameLongerThanTheMtuIsDropped) {
  when_live("1600 bytes where 1518", [](TinyDriver& driver) {
    driver.send(make_frame(1600, 1));
    EXPECT_TRUE(driver.wait_for_transmit());
    EXPECT_EQ(emu::frame_counts(driver.backend()).dropped, 1U);
  });
}
TEST(EmuStrictness, AHeaderThatAsksForAnOffload) {
  when_live("was not negotiated", [](TinyDriver& driver) {
    driver.queue(kTx).buffers->va()[0] = std::byte{1};
    send_descriptor(driver, {.addr = driver.queue(kTx).buffers->iova(), .len = 76, .flags = 0, .next = 0});
    EXPECT_TRUE(eventually([&] { return driver.used_index(kTx) == 1; }));
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
