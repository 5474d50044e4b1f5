// SPDX-License-Identifier: Apache-2.0
// Context::remove: its order, and that it ends.
#include <gtest/gtest.h>

#include "tests/device/fake_device.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

/// An instance with interrupts, a work and a delayed work, as a driver has them.
class BusyBound final : public Bound {
 public:
  BusyBound(FakeDevice& device, std::unique_ptr<device::IrqVectors> vectors, std::function<void()> item)
      : device_(device), log_(device.log), item_(std::move(item)), vectors_(std::move(vectors)) {
    vectors_->set_handler<&BusyBound::top_half>(0, this);
  }
  ~BusyBound() override {
    log_->add("destructor");
    // Disabled by now: neither can be queued any more.
    EXPECT_FALSE(device_.engine().schedule_work(work));
    EXPECT_FALSE(device_.engine().queue_delayed_work(device_.engine().system_wq(), later, 1ms));
    EXPECT_FALSE(device_.irqs().raise(0));
  }
  Result<void> quiesce(Deadline) override {
    log_->add("quiesce");
    EXPECT_TRUE(device_.irqs().raise(0));  // one that comes while it stops
    return {};
  }
  void start() {
    EXPECT_TRUE(vectors_->enable().has_value());
    EXPECT_TRUE(device_.engine().queue_delayed_work(device_.engine().system_wq(), later, 1h));
  }

 private:
  void top_half(device::Irq& irq) { irq.queue(work); }
  void run(Work&) {
    if (item_) item_();
  }
  FakeDevice& device_;
  const std::shared_ptr<EventLog> log_;
  const std::function<void()> item_;
  std::unique_ptr<device::IrqVectors> vectors_;
  Work work{this, &BusyBound::run};
  DelayedWork later{this, &BusyBound::run};
};

FakeDevice::Probe busy(std::function<void()> item = nullptr) {
  return [item](FakeDevice& device, Deadline) -> Result<std::unique_ptr<Bound>> {
    UPCI_TRY_ASSIGN(auto vectors, device::IrqVectors::create(device, 1));
    auto bound = std::make_unique<BusyBound>(device, std::move(vectors), item);
    bound->start();
    return bound;
  };
}

std::vector<std::string> after_bound(const EventLog& log) {
  auto events = log.all();
  events.erase(events.begin(), std::find(events.begin(), events.end(), "bound"));
  return events;
}

TEST(Remove, FollowsTheKernelsOrder) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:busy", busy());
    ASSERT_EQ(context->probe(device, 1s).result, "ok");
    EXPECT_TRUE(context->remove(device, Deadline::after(1s)).has_value());
    EXPECT_EQ(after_bound(*device->log), (std::vector<std::string>{"bound", "unbinding", "quiesce", "interrupts off",
                                                                   "bus master off", "reset", "destructor"}));
    EXPECT_EQ(context->bound(*device), nullptr);
  });
}

TEST(Remove, TakesWhatIsBoundOnly) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:removed", binds);
    EXPECT_EQ(context->remove(device, Deadline::after(1s)).error().code, Errc::kState);
    ASSERT_EQ(context->probe(device, 1s).result, "ok");
    EXPECT_TRUE(context->remove(device, Deadline::after(1s)).has_value());
    EXPECT_EQ(context->remove(device, Deadline::after(1s)).error().code, Errc::kState);
    EXPECT_EQ(context->probe(device, 1s).result, "ok");  // and it can be bound again
  });
}

TEST(Remove, AnItemThatWaitsForTheDeviceEndsWhenTheDeadlineGivesTheDeviceUp) {
  on_platform([] {
    auto context = make_context();
    FakeDevice* raw = nullptr;
    platform::Atomic<bool> waits{false};
    auto device = make_device(*context, "fake:waits", busy([&] {
      raw->status.store(1);
      waits.store(true);
      EXPECT_FALSE(raw->wait_for_reset(Deadline::after(1h)).has_value());
    }));
    raw = device.get();
    ASSERT_EQ(context->probe(device, 1s).result, "ok");
    EXPECT_TRUE(device->irqs().raise(0));
    ASSERT_TRUE(eventually([&] { return waits.load(); }));
    const auto start = platform::Clock::now();
    const auto removed = context->remove(device, Deadline::after(50ms));
    EXPECT_GE(platform::Clock::now() - start, 50ms);
    EXPECT_LE(platform::Clock::now() - start, at_most(60ms));
    ASSERT_FALSE(removed.has_value());
    EXPECT_EQ(removed.error().code, Errc::kTimeout);
    EXPECT_TRUE(device->log->has("destructor"));
    EXPECT_EQ(context->bound(*device), nullptr);
  });
}

TEST(Remove, EndsEvenWhenAnItemDoesNot) {
  on_platform(
      [] {
        auto context = make_context();
        HiddenGate gate;
        platform::Atomic<bool> runs{false};
        auto device = make_device(*context, "fake:hangs", busy([&] {
          runs.store(true);
          gate.pass();
        }));
        ASSERT_EQ(context->probe(device, 1s).result, "ok");
        EXPECT_TRUE(device->irqs().raise(0));
        EXPECT_TRUE(eventually([&] { return runs.load(); }));
        const auto removed = context->remove(device, Deadline::after(20ms));
        ASSERT_FALSE(removed.has_value());
        EXPECT_EQ(removed.error().code, Errc::kTimeout);
        EXPECT_TRUE(device->state()->abandoned());
        EXPECT_FALSE(device->log->has("destructor"));
        gate.open();
        context.reset();
        EXPECT_TRUE(device->log->has("destructor"));
      },
      20);
}

TEST(Remove, TheContextsDestructorRemovesWhatIsBound) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:busy", busy());
    ASSERT_EQ(context->probe(device, 1s).result, "ok");
    context.reset();
    EXPECT_TRUE(device->log->has("quiesce"));
    EXPECT_TRUE(device->log->has("destructor"));
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
