// SPDX-License-Identifier: Apache-2.0
// Irq and IrqVectors: from the eventfd to the top half to the bottom half, on the interrupt's CPU.
#include "device/irq.h"

#include <gtest/gtest.h>

#include "tests/device/fake_device.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using device::Irq;
using device::IrqVectors;

struct Receiver {
  void top_half(Irq& irq) {
    top_cpu.store(engine->current_worker_cpu());
    irq.queue(work);
  }
  void bottom_half(Work&) {
    bottom_cpu.store(engine->current_worker_cpu());
    done.complete();
  }
  Engine* engine = nullptr;
  platform::Atomic<int> top_cpu{-1}, bottom_cpu{-1};
  Completion done;
  Work work{this, &Receiver::bottom_half};
};

TEST(Irq, TopAndBottomHalfRunOnTheCpuOfTheInterrupt) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:irq", nullptr);
    Receiver receiver;
    receiver.engine = &context->engine();
    auto vectors = IrqVectors::create(*device, 2, {1, 3});
    ASSERT_TRUE(vectors.has_value());
    (*vectors)->set_handler<&Receiver::top_half>(1, &receiver);
    EXPECT_FALSE(device->irqs().raise(1));  // nothing before enable()
    ASSERT_TRUE((*vectors)->enable().has_value());
    EXPECT_TRUE(device->irqs().raise(1));
    ASSERT_TRUE(receiver.done.wait(Deadline::after(30s)));
    EXPECT_EQ(receiver.top_cpu.load(), 3);
    EXPECT_EQ(receiver.bottom_cpu.load(), 3);
    EXPECT_EQ((**vectors)[1].signals(), 1U);
    EXPECT_EQ((**vectors)[1].interrupts(), 1U);
    EXPECT_EQ((**vectors)[0].interrupts(), 0U);
    (*vectors)->shutdown();
    context->engine().flush_work(receiver.work);
  });
}

TEST(Irq, NoneRunsAfterShutdownWhichMayBeRepeated) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:irq", nullptr);
    auto vectors = IrqVectors::create(*device, 1);
    ASSERT_TRUE(vectors.has_value());
    ASSERT_TRUE((*vectors)->enable().has_value());
    EXPECT_EQ((*vectors)->enable().error().code, Errc::kState);
    device->shutdown_irqs();  // as the driver core does it
    EXPECT_TRUE(device->log->has("interrupts off"));
    EXPECT_FALSE(device->irqs().raise(0));
    (*vectors)->shutdown();
    EXPECT_EQ((**vectors)[0].interrupts(), 0U);
  });
}

TEST(Irq, ReportsWhetherTheBackendFollowsTheAffinity) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:irq", nullptr);
    auto refused = IrqVectors::create(*device, 1);
    ASSERT_TRUE(refused.has_value());
    EXPECT_FALSE((**refused)[0].affinity_set());
    device->irqs().follows_affinity = true;
    auto followed = IrqVectors::create(*device, 1);
    ASSERT_TRUE(followed.has_value());
    EXPECT_TRUE((**followed)[0].affinity_set());
  });
}

TEST(Irq, RefusesMoreVectorsThanTheDeviceOffersAndCpusThatAreNotThere) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:irq", nullptr);
    EXPECT_EQ(IrqVectors::create(*device, 5).error().code, Errc::kUnavailable);
    EXPECT_EQ(IrqVectors::create(*device, 0).error().code, Errc::kInvalid);
    EXPECT_EQ(IrqVectors::create(*device, 1, {99}).error().code, Errc::kInvalid);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
