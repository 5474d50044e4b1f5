// SPDX-License-Identifier: Apache-2.0
// The faults of the platform: addresses that nothing is mapped at, and interrupts that reach nobody.
#include "emulation/interposer/interposer.h"

#include <gtest/gtest.h>

#include "base/event_fd.h"
#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

namespace interposer = emulation::interposer;
using device::DmaKind;

TEST(Interposer, TellsTheDriverAddressesOffTheMappingAndGivesTheMemoryBack) {
  each_run([] {
    const auto wrapped = interposer::wrap(open_device("access_platform=on"), "dma-unmapped");
    ASSERT_TRUE(wrapped);
    auto memory = (*wrapped)->dma().alloc({.len = 8192, .kind = DmaKind::kTranslated});
    ASSERT_TRUE(memory);
    EXPECT_EQ((*memory)->size(), 8192U);
    (*memory)->va()[8191] = std::byte{1};
    auto other = (*wrapped)->dma().alloc({.len = 8192, .kind = DmaKind::kTranslated});
    ASSERT_TRUE(other);
    EXPECT_NE((*memory)->iova(), (*other)->iova());
  });
}

TEST(Interposer, RefusesToMisleadADeviceThatNoIommuWatches) {
  each_run([] {
    const auto wrapped = interposer::wrap(open_device(""), "dma-unmapped");
    ASSERT_TRUE(wrapped);
    const auto refused = (*wrapped)->dma().alloc({.len = 4096, .kind = DmaKind::kPhysical});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kUnavailable);
    EXPECT_NE(refused.error().advice.find("ACCESS_PLATFORM"), std::string::npos);
  });
}

TEST(Interposer, LosesInterruptsAndNothingElse) {
  for (const bool lost : {false, true}) {
    each_run([lost] {
      const auto device = open_device("");
      const auto backend = lost ? interposer::wrap(device, "irq-lost").value() : device;
      TinyDriver driver(backend);
      driver.bring_up();
      driver.write<vpci::Common::ConfigMsixVector>(0);
      EXPECT_EQ(backend->irqs().count(), device->irqs().count());
      auto eventfd = EventFd::create();
      ASSERT_TRUE(eventfd);
      const int fds[] = {eventfd->fd()};
      ASSERT_TRUE(backend->irqs().enable(fds));
      emulation::emu::set_link(*device, false);
      EXPECT_EQ(eventfd->drain(), lost ? 0U : 1U);
      EXPECT_TRUE(backend->irqs().disable());
    });
  }
}

TEST(Interposer, KnowsItsFaultsByName) {
  for (const auto& fault : interposer::faults()) EXPECT_TRUE(interposer::is_fault(fault.name));
  EXPECT_FALSE(interposer::is_fault("status-stuck"));
  each_run([] { EXPECT_EQ(interposer::wrap(open_device(""), "nonsense").error().code, Errc::kInvalid); });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
