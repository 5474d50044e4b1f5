// SPDX-License-Identifier: Apache-2.0
#include "pci/device.h"

#include <gtest/gtest.h>

#include "device/context.h"
#include "tests/pci/fake_backend.h"

#if defined(UPCI_SIM)
#include "tests/sim.h"
#endif

namespace upci::inline UPCI_VARIANT::test {
namespace {

using namespace std::chrono_literals;

struct Edu final : pci::Bound {
  static constexpr pci::DeviceId kIds[] = {{.vendor = 0x1234, .device = 0x11e8}};
  static Result<std::unique_ptr<pci::Bound>> probe(pci::Device& device, Deadline) {
    UPCI_TRY_ASSIGN(const pci::Bar bar, device.bar(1));
    auto edu = std::make_unique<Edu>();
    edu->bar = bar;
    edu->in_probe = bar.load<std::uint32_t>(0, "id");
    return edu;
  }
  Result<void> quiesce(Deadline) override {
    bar.store<std::uint32_t>(4, 1, "stop");
    return {};
  }
  pci::Bar bar;
  std::uint32_t in_probe = 0;
};

std::shared_ptr<FakeBackend> edu_backend() {
  auto backend = std::make_shared<FakeBackend>();
  backend->bars[1] = {.size = 64, .io = false, .mapping = backend->memory.data()};
  return backend;
}

TEST(PciDeviceId, MatchesByWhatIsGiven) {
  const pci::Identity nic{.vendor = 0x1af4,
                          .device = 0x1041,
                          .subsystem_vendor = 0x1af4,
                          .subsystem_device = 0x1100,
                          .class_code = 0x020000};
  EXPECT_TRUE(pci::DeviceId{}.matches(nic));
  EXPECT_TRUE((pci::DeviceId{.vendor = 0x1af4, .device = 0x1041}.matches(nic)));
  EXPECT_FALSE((pci::DeviceId{.vendor = 0x1af4, .device = 0x1000}.matches(nic)));
  EXPECT_FALSE((pci::DeviceId{.vendor = 0x8086}.matches(nic)));
  EXPECT_FALSE((pci::DeviceId{.subsystem_vendor = 0x8086}.matches(nic)));
  EXPECT_FALSE((pci::DeviceId{.subsystem_device = 1}.matches(nic)));
  EXPECT_TRUE((pci::DeviceId{.class_code = 0x020000, .class_mask = 0xff0000}.matches(nic)));
  EXPECT_FALSE((pci::DeviceId{.class_code = 0x010000, .class_mask = 0xff0000}.matches(nic)));
}

TEST(PciDevice, ConfigSpaceFullOfOnesIsGone) {
  auto backend = std::make_shared<FakeBackend>();
  backend->config.fill(0xff);
  const auto device = pci::Device::create(backend);
  ASSERT_FALSE(device.has_value());
  EXPECT_EQ(device.error().verdict, Verdict::kGone);
}

TEST(PciDevice, ABarThatIsNotThereOrHasSizeZeroIsADeviceError) {
  auto device = *pci::Device::create(edu_backend());
  EXPECT_EQ(device->bar(0).error().code, Errc::kDevice);
  EXPECT_EQ(device->bar(6).error().code, Errc::kDevice);
  EXPECT_EQ(device->bar(~0U).error().code, Errc::kDevice);
}

TEST(PciDevice, AsksTheBackendForABarOnce) {
  auto backend = edu_backend();
  auto device = *pci::Device::create(backend);
  EXPECT_EQ(device->bar(1)->size(), 64U);
  EXPECT_EQ(device->bar(1)->size(), 64U);
  EXPECT_EQ(backend->bar_calls, 1);
}

void bind_and_remove() {
  auto context = *device::Context::create({.engine = {.topology = *Topology::synthetic("numa:1 core:2")}});
  context->add_driver(pci::make_driver<Edu>("edu"));
  auto backend = edu_backend();
  backend->memory[0] = std::byte{0xed};
  auto device = *pci::Device::create(backend);
  ASSERT_TRUE(context->add_device(device).has_value());
  const device::Report report = context->probe(device, 10s);
  EXPECT_EQ(report.result, "ok");
  EXPECT_EQ(report.driver, "edu");
  Edu* edu = device::find<Edu>(*context->bound(*device));
  ASSERT_NE(edu, nullptr);
  EXPECT_EQ(edu->in_probe, 0xedU);
  // Recorded while it was probed, straight once it is bound, recorded again when it is removed.
  EXPECT_EQ(device->state()->recorder().timeline("id").size(), 1U);
  static_cast<void>(edu->bar.load<std::uint32_t>(0, "after"));
  EXPECT_TRUE(device->state()->recorder().timeline("after").empty());
  EXPECT_TRUE(context->remove(device, Deadline::after(10s)).has_value());
  EXPECT_EQ(device->state()->recorder().last_register(), "stop");
  EXPECT_EQ(backend->memory[4], std::byte{1});
}

TEST(PciDriver, IsProbedThroughItsIdTableAndDrivesItsBarsStraightOnceBound) {
#if defined(UPCI_SIM)
  for_each_seed(100, bind_and_remove);
#else
  bind_and_remove();
#endif
}

TEST(PciDriver, DoesNotMatchAnotherFunction) {
  const auto driver = pci::make_driver<Edu>("edu");
  auto backend = edu_backend();
  EXPECT_TRUE(driver->match(**pci::Device::create(backend)));
  backend->set16(0x02, 0x11e9);
  EXPECT_FALSE(driver->match(**pci::Device::create(backend)));
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
