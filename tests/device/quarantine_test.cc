// SPDX-License-Identifier: Apache-2.0
// Memory that a device may still write to is never freed; memory of a device that is proven quiet always is.
#include "device/quarantine.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/device/fake_device.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

/// Takes a buffer, then fails: the buffer is destroyed inside of the probe.
Result<std::unique_ptr<Bound>> takes_memory_and_fails(FakeDevice& device, Deadline deadline) {
  UPCI_TRY_ASSIGN(device::DmaBuffer buffer, device.dma_alloc({.len = 4096}));
  UPCI_TRY(device.wait_for_reset(deadline));
  return fail(Errc::kState, "not reached");
}

Result<std::unique_ptr<Bound>> binds_with_memory(FakeDevice& device, Deadline) {
  auto bound = std::make_unique<FakeBound>(device);
  UPCI_TRY_ASSIGN(bound->memory, device.dma_alloc({.len = 4096}));
  UPCI_TRY_ASSIGN(device::DmaBuffer scratch, device.dma_alloc({.len = 64}));
  return bound;
}

/// The list is the process's: leave it as it was.
void let_go(FakeDevice& device) {
  device.state()->set_quarantined(false);
  device::quarantine::release(*device.state());
}

TEST(Quarantine, MemoryOfAFailedProbeIsFreedOnceTheDeviceIsProvenQuiet) {
  on_platform([] {
    const auto before = device::quarantine::totals();
    auto context = make_context();
    auto device = make_device(*context, "fake:quiet", takes_memory_and_fails);
    device->status.store(1);
    EXPECT_EQ(context->probe(device, 50ms).result, "stuck");
    EXPECT_EQ(device->dma().live(), 0);
    EXPECT_EQ(device::quarantine::totals().regions, before.regions);
  });
}

TEST(Quarantine, MemoryOfADeviceThatIsNotProvenQuietStaysAndIsCounted) {
  on_platform([] {
    const auto before = device::quarantine::totals();
    auto context = make_context();
    auto device = make_device(*context, "fake:loud", takes_memory_and_fails);
    device->control().can_be_quiet.store(false);
    device->status.store(1);
    const Report report = context->probe(device, 50ms);
    EXPECT_EQ(report.result, "stuck");
    EXPECT_TRUE(std::ranges::any_of(
        report.notes, [](const std::string& note) { return note.find("quarantine") != std::string::npos; }));
    EXPECT_EQ(device->dma().live(), 1);
    EXPECT_EQ(device::quarantine::totals().regions, before.regions + 1);
    EXPECT_EQ(device::quarantine::totals().bytes, before.bytes + 4096);
    context.reset();
    EXPECT_EQ(device->dma().live(), 1);  // for the life of the process
    let_go(*device);
    EXPECT_EQ(device->dma().live(), 0);
  });
}

TEST(Quarantine, EndsWithASuccessfulProbeAndWhatWasFreedOnTheWayIsFree) {
  on_platform([] {
    const auto before = device::quarantine::totals();
    auto context = make_context();
    auto device = make_device(*context, "fake:bound", binds_with_memory);
    EXPECT_EQ(context->probe(device, 1s).result, "ok");
    EXPECT_EQ(device->dma().live(), 1);
    EXPECT_FALSE(device->state()->quarantined());
    EXPECT_TRUE(context->remove(device, Deadline::after(1s)).has_value());
    EXPECT_EQ(device->dma().live(), 0);
    EXPECT_EQ(device::quarantine::totals().regions, before.regions);
  });
}

TEST(Quarantine, KeepsTheMemoryOfARemovedDeviceThatIsNotProvenQuiet) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:loud", binds_with_memory);
    EXPECT_EQ(context->probe(device, 1s).result, "ok");
    device->control().can_be_quiet.store(false);
    EXPECT_FALSE(context->remove(device, Deadline::after(1s)).has_value());
    EXPECT_EQ(context->bound(*device), nullptr);
    EXPECT_EQ(device->dma().live(), 1);
    let_go(*device);
  });
}

// A legacy device on a conventional bus has no function-level reset.
TEST(Quarantine, TheDevicesOwnResetWithBusMasteringOffIsAProof) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:old", binds_with_memory);
    EXPECT_EQ(context->probe(device, 1s).result, "ok");
    device->control().can_be_quiet.store(false);
    device->state()->set_own_reset(true);
    EXPECT_TRUE(context->remove(device, Deadline::after(1s)).has_value());
    EXPECT_EQ(device->dma().live(), 0);
  });
}

TEST(Quarantine, ASuccessfulSecondProbeDoesNotFreeWhatTheFirstLeftBehind) {
  on_platform([] {
    auto context = make_context();
    platform::Atomic<bool> fails{true};
    auto device = make_device(*context, "fake:again", [&](FakeDevice& fake, Deadline deadline) {
      return fails.load() ? takes_memory_and_fails(fake, deadline) : binds_with_memory(fake, deadline);
    });
    device->control().can_be_quiet.store(false);
    device->status.store(1);
    EXPECT_EQ(context->probe(device, 50ms).result, "stuck");
    fails.store(false);
    EXPECT_EQ(context->probe(device, 1s).result, "ok");
    EXPECT_GE(device->dma().live(), 2);  // what is bound, and what the first probe left
    device->control().can_be_quiet.store(true);
    EXPECT_TRUE(context->remove(device, Deadline::after(1s)).has_value());
    EXPECT_EQ(device->dma().live(), 0);
  });
}

TEST(DmaAlloc, AsksForTheDevicesNodeAndRefusesOnceTheDeviceWasGivenUp) {
  on_platform([] {
    auto device = FakeDevice::make("fake:dma", 3, nullptr);
    {
      auto buffer = device->dma_alloc({.len = 128});
      ASSERT_TRUE(buffer.has_value());
      EXPECT_EQ(buffer->size(), 128U);
      EXPECT_EQ(device->dma().last_node.load(), 3);
      device::DmaBuffer moved = std::move(*buffer);
      EXPECT_FALSE(static_cast<bool>(*buffer));
      EXPECT_EQ(device->dma().live(), 1);
    }
    EXPECT_EQ(device->dma().live(), 0);
    device->abandon();
    auto refused = device->dma_alloc({.len = 128});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().verdict, Verdict::kGone);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
