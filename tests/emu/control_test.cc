// SPDX-License-Identifier: Apache-2.0
// Silencing a device: bus mastering, reset, and giving it up.
#include "base/wait.h"
#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using std::chrono::milliseconds;
constexpr std::uint16_t kRx = vspec::net::kReceiveQueue;
constexpr std::uint16_t kTx = vspec::net::kTransmitQueue;

TEST(EmuControl, WithBusMasteringOffTheDeviceTouchesNoMemory) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    driver.send(make_frame(64, 1));
    ASSERT_TRUE(driver.receive());
    ASSERT_TRUE(driver.wait_for_transmit());
    for (std::uint32_t i = 0; i < 8; ++i) driver.send(make_frame(64, i));
    driver.master(false);
    // From here on nothing moves, however much the device was in the middle of.
    const std::uint16_t rx = driver.used_index(kRx);
    const std::uint16_t tx = driver.used_index(kTx);
    sleep_for(milliseconds(5));
    EXPECT_EQ(driver.used_index(kRx), rx);
    EXPECT_EQ(driver.used_index(kTx), tx);
    // Switched on again it goes on where it stopped.
    driver.master(true);
    EXPECT_TRUE(eventually([&] { return driver.used_index(kRx) == 9; }));
    EXPECT_TRUE(driver.wait_for_transmit());
  });
}

TEST(EmuControl, QuietIsProvenByBusMasteringOffAndAResetAfterIt) {
  each_run([] {
    TinyDriver driver(open_device());
    device::DeviceControl& control = driver.backend().control();
    driver.bring_up();
    EXPECT_FALSE(control.proven_quiet());
    ASSERT_TRUE(control.set_bus_master(false));
    EXPECT_FALSE(control.proven_quiet()) << "it could be switched on again by a device left as it is";
    ASSERT_TRUE(control.reset(Deadline::after(milliseconds(100))));
    EXPECT_TRUE(control.proven_quiet());
    ASSERT_TRUE(control.set_bus_master(true));
    EXPECT_FALSE(control.proven_quiet());
  });
}

TEST(EmuControl, AResetClearsTheDeviceAndKeepsTheHeader) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    const std::uint32_t command = driver.backend().config_read(4, 2);
    ASSERT_TRUE(driver.backend().control().reset(Deadline::after(milliseconds(100))));
    EXPECT_EQ(driver.backend().config_read(4, 2), command);
    EXPECT_EQ(driver.status(), 0);
    EXPECT_EQ(driver.read<vpci::Common::QueueEnable>(), 0);
    driver.bring_up();
  });
}

TEST(EmuControl, AfterAbandonmentReadsAreAllOnesAndTheDeviceCanStillBeSilenced) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    device::DeviceControl& control = driver.backend().control();
    control.abandon();
    control.abandon();
    EXPECT_EQ(driver.status(), 0xff);
    EXPECT_EQ(driver.backend().config_read(0, 4), 0xffff'ffffU);
    EXPECT_TRUE(control.present()) << "it is there, only given up";
    ASSERT_TRUE(control.set_bus_master(false));
    ASSERT_TRUE(control.reset(Deadline::after(milliseconds(100))));
    EXPECT_TRUE(control.proven_quiet());
  });
}

/// A thread whose read of device_status does not return.
class StalledReader {
 public:
  explicit StalledReader(pci::Backend& device, bool legacy = false) {
    auto thread = platform::Thread::create({.name = "stalled"}, [this, &device, legacy] {
      const unsigned bar = legacy ? 0 : 4;
      const std::uint64_t offset = legacy ? vpci::Legacy::DeviceStatus::offset : vpci::Common::DeviceStatus::offset;
      device.bar_write(bar, offset, 1, 0);
      writing_done_.complete();
      value_ = device.bar_read(bar, offset, 1);
      returned_.complete();
    });
    EXPECT_TRUE(thread);
    thread_ = std::move(*thread);
    writing_done_.wait();
  }
  ~StalledReader() { thread_.join(); }
  bool returns_within(platform::Nanoseconds span) { return returned_.wait(Deadline::after(span)); }
  std::uint64_t value() const { return value_; }

 private:
  Completion writing_done_;
  Completion returned_;
  std::uint64_t value_ = 0;  // written before returned_
  platform::Thread thread_;
};

TEST(EmuControl, AStalledReadReturnsWhenTheDeviceIsAbandoned) {
  each_run(
      [] {
        for (const bool legacy : {false, true}) {
          auto device = open_device(legacy ? "legacy,fault=access-stalled" : "fault=access-stalled");
          ASSERT_NE(device, nullptr);
          StalledReader reader(*device, legacy);
          EXPECT_FALSE(reader.returns_within(milliseconds(20)));
          // Meanwhile the rest of the function answers, and can be silenced.
          EXPECT_EQ(device->config_read(0, 2), vpci::kVendor);
          EXPECT_TRUE(device->control().set_bus_master(false));
          EXPECT_TRUE(device->control().reset(Deadline::after(milliseconds(100))));
          EXPECT_TRUE(device->control().proven_quiet());
          EXPECT_FALSE(reader.returns_within(milliseconds(5)));
          device->control().abandon();
          EXPECT_TRUE(reader.returns_within(milliseconds(10'000)));
          EXPECT_EQ(reader.value(), 0xffU);
        }
      },
      5);
}

#if defined(UPCI_SIM)
// Here simulated time has passed only because the reader sleeps inside of the device; real time would prove nothing,
// and the device would be gone before the reader comes to it.
TEST(EmuControl, AStalledReadReturnsWhenTheDeviceIsDestroyed) {
  each_run(
      [] {
        auto device = open_device("fault=access-stalled");
        ASSERT_NE(device, nullptr);
        StalledReader reader(*device);
        EXPECT_FALSE(reader.returns_within(milliseconds(20)));
        device.reset();
        EXPECT_TRUE(reader.returns_within(milliseconds(10'000)));
        EXPECT_EQ(reader.value(), 0xffU);
      },
      5);
}
#endif

TEST(EmuControl, ADeviceCanBeDestroyedInFullFlight) {
  each_run([] {
    TinyDriver driver(open_device());
    driver.bring_up();
    for (std::uint32_t i = 0; i < TinyDriver::kSize; ++i) driver.send(make_frame(64, i));
    // The driver, and with it device and memory, ends here.
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
