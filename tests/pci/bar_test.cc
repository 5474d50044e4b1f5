// SPDX-License-Identifier: Apache-2.0
// Bars: bounds, recording, the straight way, and what is left of them once the device was given up.
#include "pci/bar.h"

#include <gtest/gtest.h>

#include "base/reg.h"
#include "pci/device.h"
#include "tests/pci/fake_backend.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Status = Reg8<0x14, RW>;
using Features = Reg32<0x08, RW>;

struct PciBar : testing::Test {
  PciBar() {
    backend->bars[0] = {.size = 64};
    backend->bars[1] = {.size = 64, .io = false, .mapping = backend->memory.data() + 1024};
    device = *pci::Device::create(backend);
  }
  std::shared_ptr<FakeBackend> backend = std::make_shared<FakeBackend>();
  std::shared_ptr<pci::Device> device;
};

TEST_F(PciBar, TrapsWhereThereIsNoMapping) {
  const pci::Bar bar = *device->bar(0);
  bar.write<Features>(0x12345678, "features");
  EXPECT_EQ(bar.read<Features>("features"), 0x12345678U);
  EXPECT_EQ(backend->trapped.load(), 2);
  device->set_direct(true);
  EXPECT_EQ(bar.read<Features>(), 0x12345678U);
  EXPECT_EQ(backend->trapped.load(), 3);
}

TEST_F(PciBar, RecordsEachAccessUntilItMayGoStraight) {
  const pci::Bar bar = *device->bar(1);
  bar.write<Status>(0x0f, "device_status");
  EXPECT_EQ(bar.read<Status>("device_status"), 0x0f);
  EXPECT_EQ(bar.read<Status>("device_status"), 0x0f);
  EXPECT_EQ(static_cast<int>(backend->memory[1024 + 0x14]), 0x0f);
  auto timeline = device->state()->recorder().timeline("device_status");
  ASSERT_EQ(timeline.size(), 1U);
  EXPECT_EQ(timeline[0].count, 2U);
  device->set_direct(true);
  EXPECT_EQ(bar.read<Status>("device_status"), 0x0f);
  EXPECT_EQ(device->state()->recorder().timeline("device_status")[0].count, 2U);
  device->set_direct(false);
  EXPECT_EQ(bar.read<Status>("device_status"), 0x0f);
  EXPECT_EQ(device->state()->recorder().timeline("device_status")[0].count, 3U);
  EXPECT_EQ(backend->trapped.load(), 0);
}

TEST_F(PciBar, ARegisterWithoutANameIsRecordedByItsPlace) {
  const pci::Bar window = *device->bar(0)->window(0x10, 0x10);
  window.load<std::uint16_t>(2);
  EXPECT_EQ(device->state()->recorder().last_register(), "bar0+0x12");
}

TEST_F(PciBar, OutsideOfTheWindowReadsAllOnesAndWritesNowhere) {
  for (const unsigned index : {0U, 1U}) {
    for (const bool direct : {false, true}) {
      device->set_direct(direct);
      const pci::Bar window = *device->bar(index)->window(8, 6);
      EXPECT_EQ(window.load<std::uint32_t>(4), 0xffffffffU);  // two bytes too long
      EXPECT_EQ(window.load<std::uint8_t>(6), 0xff);
      EXPECT_EQ(window.load<std::uint64_t>(~std::uint64_t{0} - 3), ~std::uint64_t{0});
      window.store<std::uint32_t>(4, 0x55555555);
      window.store<std::uint8_t>(6, 0x55);
      EXPECT_EQ(window.load<std::uint16_t>(4), 0);
    }
  }
  for (const std::byte byte : backend->memory) EXPECT_EQ(byte, std::byte{0});
}

TEST_F(PciBar, AWindowMustLieInside) {
  const pci::Bar bar = *device->bar(0);
  EXPECT_TRUE(bar.window(0, 64).has_value());
  EXPECT_TRUE(bar.window(64, 0).has_value());
  for (const auto& [offset, length] : {std::pair<std::uint64_t, std::uint64_t>{0, 65},
                                       {64, 1},
                                       {65, 0},
                                       {8, ~std::uint64_t{0}},
                                       {~std::uint64_t{0}, 2},
                                       {~std::uint64_t{0} - 7, 16}}) {
    const auto window = bar.window(offset, length);
    ASSERT_FALSE(window.has_value());
    EXPECT_EQ(window.error().code, Errc::kDevice);
  }
  const pci::Bar inner = *bar.window(32, 16);
  EXPECT_TRUE(inner.window(8, 8).has_value());
  EXPECT_FALSE(inner.window(8, 9).has_value());
  EXPECT_FALSE(pci::Bar().window(0, 0).has_value());
}

TEST_F(PciBar, AfterAbandonmentReadsAllOnesAndTouchesNothing) {
  for (const unsigned index : {0U, 1U}) static_cast<void>(device->bar(index));
  device->set_direct(true);
  const pci::Bar trapping = *device->bar(0), mapped = *device->bar(1);
  device->abandon();
  for (const pci::Bar& bar : {trapping, mapped, *device->bar(1)}) {
    bar.write<Status>(0x55);
    EXPECT_EQ(bar.read<Status>(), 0xff);
  }
  device->set_direct(true);  // comes too late
  EXPECT_EQ(mapped.read<Status>(), 0xff);
  EXPECT_EQ(backend->trapped.load(), 0);
  for (const std::byte byte : backend->memory) EXPECT_EQ(byte, std::byte{0});
}

TEST_F(PciBar, AnAccessThatHangsUntilAbandonmentReadsAllOnesAndStaysOpenInTheRecord) {
  const pci::Bar bar = *device->bar(0);
  backend->on_access = [&] {
    EXPECT_TRUE(device->state()->recorder().pending().has_value());
    device->abandon();
  };
  EXPECT_EQ(bar.read<Status>("device_status"), 0xff);
  const auto pending = device->state()->recorder().pending();
  ASSERT_TRUE(pending.has_value());
  EXPECT_EQ(pending->reg, "device_status");
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
