// SPDX-License-Identifier: Apache-2.0
// Interrupts: routing, masks, and what the driver says it wants.
#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

constexpr std::uint16_t kRx = vspec::net::kReceiveQueue;
constexpr std::uint16_t kTx = vspec::net::kTransmitQueue;

/// Sends a frame, and waits until the device has put it into the receive queue as well.
void pass_one(TinyDriver& driver, std::uint32_t number) {
  const auto received = static_cast<std::uint16_t>(driver.used_index(kRx) + 1);
  driver.send(make_frame(64, number));
  EXPECT_TRUE(driver.wait_for_transmit());
  EXPECT_TRUE(eventually([&] { return driver.used_index(kRx) == received; }));
}

/// Lets the device finish the share of work that published what the test has seen: its interrupt comes after that.
void settle(TinyDriver& driver) { static_cast<void>(emu::frame_counts(driver.backend())); }

TEST(EmuInterrupts, AMaskedVectorKeepsItsInterruptUntilItIsUnmasked) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    device::IrqSource& irqs = driver.backend().irqs();
    ASSERT_TRUE(irqs.set_mask(1, true));
    pass_one(driver, 1);
    settle(driver);
    EXPECT_EQ(driver.interrupts(1), 0U);
    EXPECT_EQ(driver.backend().bar_read(1, 0x800, 4), 2U) << "the pending bit of vector 1";
    ASSERT_TRUE(irqs.set_mask(1, false));
    EXPECT_EQ(driver.interrupts(1), 1U);
    EXPECT_EQ(driver.backend().bar_read(1, 0x800, 4), 0U);
  });
}

TEST(EmuInterrupts, NothingIsSignalledAfterDisable) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    ASSERT_TRUE(driver.backend().irqs().disable());
    pass_one(driver, 1);
    settle(driver);
    EXPECT_EQ(driver.interrupts(1), 0U);
    EXPECT_EQ(driver.interrupts(2), 0U);
  });
}

TEST(EmuInterrupts, ADriverThatWantsNoneGetsNone) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    driver.set_avail_flags(kRx, vring::kAvailNoInterrupt);
    driver.set_avail_flags(kTx, vring::kAvailNoInterrupt);
    pass_one(driver, 1);
    settle(driver);
    EXPECT_EQ(driver.interrupts(1), 0U);
    EXPECT_EQ(driver.interrupts(2), 0U);
    driver.set_avail_flags(kRx, 0);
    pass_one(driver, 2);
    EXPECT_TRUE(driver.wait_for_interrupt(1));
    EXPECT_EQ(driver.interrupts(2), 0U);
  });
}

TEST(EmuInterrupts, WithEventIdxTheInterruptComesWhenUsedEventIsPassed) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up(TinyDriver::kUsual | vspec::mask_of(vspec::feature::kEventIdx));
    driver.set_used_event(kRx, 2);  // after the third frame
    pass_one(driver, 0);
    pass_one(driver, 1);
    settle(driver);
    EXPECT_EQ(driver.interrupts(1), 0U);
    pass_one(driver, 2);
    EXPECT_TRUE(driver.wait_for_interrupt(1));
  });
}

TEST(EmuInterrupts, AQueueWithoutAVectorStaysSilent) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.enable_interrupts();
    driver.bring_up_to_queues(TinyDriver::kUsual);
    driver.add_status(vstatus::kDriverOk);
    driver.offer_receive_buffers(4);
    EXPECT_EQ(driver.read<vpci::Common::QueueMsixVector>(), 2);
    pass_one(driver, 1);
    EXPECT_TRUE(driver.wait_for_interrupt(2)) << "transmit has one";

    TinyDriver silent(open_device());
    silent.bring_up_to_queues(TinyDriver::kUsual);  // no vectors were set
    silent.enable_interrupts();
    silent.add_status(vstatus::kDriverOk);
    silent.offer_receive_buffers(4);
    pass_one(silent, 1);
    settle(silent);
    for (unsigned vector = 0; vector < 3; ++vector) EXPECT_EQ(silent.interrupts(vector), 0U);
  });
}

TEST(EmuInterrupts, AVectorThatIsNotThereReadsBackAsNone) {
  each_run(
      [] {
        TinyDriver driver(open_device("vectors=2"));
        EXPECT_EQ(driver.backend().irqs().count(), 2U);
        driver.write<vpci::Common::ConfigMsixVector>(2);
        EXPECT_EQ(driver.read<vpci::Common::ConfigMsixVector>(), vpci::kNoVector);
        driver.write<vpci::Common::ConfigMsixVector>(1);
        EXPECT_EQ(driver.read<vpci::Common::ConfigMsixVector>(), 1);
      },
      1);
}

TEST(EmuInterrupts, TooManyDescriptorsAreInvalidAndAffinityIsNotTheDevices) {
  each_run(
      [] {
        auto device = open_device("vectors=1");
        ASSERT_NE(device, nullptr);
        auto fd = EventFd::create();
        ASSERT_TRUE(fd);
        const int twice[] = {fd->fd(), fd->fd()};
        EXPECT_EQ(device->irqs().enable(twice).error().code, Errc::kInvalid);
        EXPECT_EQ(device->irqs().set_mask(1, true).error().code, Errc::kInvalid);
        EXPECT_EQ(device->irqs().set_affinity(0, 0).error().code, Errc::kUnavailable);
        const int closed[] = {1 << 20};
        EXPECT_EQ(device->irqs().enable(closed).error().code, Errc::kSystem);
      },
      1);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
