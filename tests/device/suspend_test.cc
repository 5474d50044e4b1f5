// SPDX-License-Identifier: Apache-2.0
// Context::freeze and Context::restore: their order, what they refuse, and that they end.
#include <gtest/gtest.h>

#include "tests/device/fake_device.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

/// What the driver does in its freeze and its restore.
struct Steps {
  std::function<Result<void>(Deadline)> freeze = {};
  std::function<Result<void>(Deadline)> restore = {};
};

/// An instance with a vector and a work, that can be put to sleep.
class SleepyBound final : public Bound {
 public:
  SleepyBound(FakeDevice& device, std::unique_ptr<device::IrqVectors> vectors, Steps steps)
      : device_(device), log_(device.log), steps_(std::move(steps)), vectors_(std::move(vectors)) {
    vectors_->set_handler<&SleepyBound::top_half>(0, this);
  }
  ~SleepyBound() override { log_->add("destructor"); }
  Result<void> quiesce(Deadline) override {
    log_->add("quiesce");
    return {};
  }
  Result<void> freeze(Deadline deadline) override {
    log_->add("freeze");
    return steps_.freeze ? steps_.freeze(deadline) : Result<void>();
  }
  Result<void> restore(Deadline deadline) override {
    log_->add("restore");
    UPCI_TRY(vectors_->enable());
    return steps_.restore ? steps_.restore(deadline) : Result<void>();
  }
  void start() { EXPECT_TRUE(vectors_->enable().has_value()); }
  bool queue() { return device_.engine().schedule_work(work_); }
  unsigned runs() const { return runs_.load(); }

 private:
  void top_half(device::Irq& irq) { irq.queue(work_); }
  void run(Work&) { runs_.fetch_add(1); }
  FakeDevice& device_;
  const std::shared_ptr<EventLog> log_;
  const Steps steps_;
  std::unique_ptr<device::IrqVectors> vectors_;
  platform::Atomic<unsigned> runs_{0};
  Work work_{this, &SleepyBound::run};
};

FakeDevice::Probe sleepy(Steps steps = {}) {
  return [steps](FakeDevice& device, Deadline) -> Result<std::unique_ptr<Bound>> {
    UPCI_TRY_ASSIGN(auto vectors, device::IrqVectors::create(device, 1));
    auto bound = std::make_unique<SleepyBound>(device, std::move(vectors), steps);
    bound->start();
    return bound;
  };
}

struct Bed {
  explicit Bed(FakeDevice::Probe probe) : device(make_device(*context, "sleeper", std::move(probe))) {
    EXPECT_TRUE(context->probe(device, 10s).ok());
  }
  SleepyBound& bound() { return dynamic_cast<SleepyBound&>(*context->bound(*device)); }
  std::vector<std::string> since(const std::string& what) const {
    auto events = device->log->all();
    events.erase(events.begin(), std::find(events.begin(), events.end(), what));
    return events;
  }
  const std::unique_ptr<Context> context = make_context();
  const std::shared_ptr<FakeDevice> device;
};

TEST(Suspend, TheDriverThenInterruptsThenWorksThenBusMasteringAndBackAgain) {
  on_platform([] {
    Bed bed(sleepy());
    SleepyBound& bound = bed.bound();
    EXPECT_TRUE(bed.device->irqs().raise(0));
    EXPECT_TRUE(eventually([&] { return bound.runs() == 1; }));
    ASSERT_TRUE(bed.context->freeze(bed.device, Deadline::after(10s)));
    EXPECT_EQ(bed.since("freeze"), (std::vector<std::string>{"freeze", "interrupts off", "bus master off", "bound"}));
    EXPECT_EQ(bed.context->bound(*bed.device), &bound) << "the instance stays where it is";
    EXPECT_FALSE(bed.device->irqs().raise(0)) << "no interrupt is routed";
    EXPECT_FALSE(bound.queue()) << "no work runs";
    ASSERT_TRUE(bed.context->restore(bed.device, Deadline::after(10s)));
    EXPECT_EQ(bed.context->bound(*bed.device), &bound);
    EXPECT_TRUE(bed.device->irqs().raise(0));
    EXPECT_TRUE(eventually([&] { return bound.runs() == 2; }));
    EXPECT_TRUE(bound.queue());
    EXPECT_TRUE(bed.context->remove(bed.device, Deadline::after(10s)));
  });
}

TEST(Suspend, IsRefusedWhereItDoesNotFit) {
  on_platform([] {
    Bed bed(sleepy());
    EXPECT_EQ(bed.context->restore(bed.device, Deadline::after(1s)).error().code, Errc::kState) << "awake";
    EXPECT_EQ(bed.context->freeze(bed.device, Deadline::never()).error().code, Errc::kInvalid);
    EXPECT_EQ(bed.context->freeze(nullptr, Deadline::after(1s)).error().code, Errc::kInvalid);
    ASSERT_TRUE(bed.context->freeze(bed.device, Deadline::after(1s)));
    EXPECT_EQ(bed.context->freeze(bed.device, Deadline::after(1s)).error().code, Errc::kState) << "frozen already";
    ASSERT_TRUE(bed.context->remove(bed.device, Deadline::after(10s))) << "a frozen device can be removed";
    EXPECT_EQ(bed.context->freeze(bed.device, Deadline::after(1s)).error().code, Errc::kState) << "not bound";
    // And probed again.
    EXPECT_TRUE(bed.context->probe(bed.device, 10s).ok());
    EXPECT_TRUE(bed.context->freeze(bed.device, Deadline::after(1s)));
  });
}

TEST(Suspend, OfADriverThatCannotLeavesTheDeviceAsItIs) {
  on_platform([] {
    const auto context = make_context();
    const auto device = make_device(*context, "awake", binds);
    ASSERT_TRUE(context->probe(device, 10s).ok());
    Bound* const bound = context->bound(*device);
    EXPECT_EQ(context->freeze(device, Deadline::after(1s)).error().code, Errc::kUnavailable);
    EXPECT_EQ(context->bound(*device), bound);
    EXPECT_TRUE(context->remove(device, Deadline::after(10s)));
  });
}

TEST(Suspend, ARestoreThatFailsPutsItToRestAgainAndCanBeRepeated) {
  on_platform([] {
    const auto tries = std::make_shared<platform::Atomic<int>>(0);
    Bed bed(sleepy({.restore = [tries](Deadline) -> Result<void> {
      if (tries->fetch_add(1) == 0) return fail(Errc::kDevice, "not yet");
      return {};
    }}));
    SleepyBound& bound = bed.bound();
    ASSERT_TRUE(bed.context->freeze(bed.device, Deadline::after(1s)));
    EXPECT_EQ(bed.context->restore(bed.device, Deadline::after(1s)).error().code, Errc::kDevice);
    EXPECT_FALSE(bed.device->irqs().raise(0));
    EXPECT_FALSE(bound.queue());
    EXPECT_TRUE(bed.context->restore(bed.device, Deadline::after(1s)));
    EXPECT_TRUE(bound.queue());
  });
}

TEST(Suspend, OneThatEndsOnlyOnceTheDeviceWasGivenUpIsATimeout) {
  on_platform([] {
    const auto held = std::make_shared<FakeDevice*>(nullptr);
    Bed bed(sleepy({.freeze = [held](Deadline) -> Result<void> {
      while (!(*held)->state()->abandoned()) sleep_for(1ms);
      return {};
    }}));
    *held = bed.device.get();
    const platform::TimePoint begin = platform::Clock::now();
    EXPECT_EQ(bed.context->freeze(bed.device, Deadline::after(100ms)).error().code, Errc::kTimeout);
    EXPECT_LE(platform::Clock::now() - begin, at_most(800ms));
    EXPECT_NE(bed.context->bound(*bed.device), nullptr);
    static_cast<void>(bed.context->remove(bed.device, Deadline::after(10s)));
    EXPECT_TRUE(bed.device->log->has("destructor"));
  });
}

TEST(Suspend, ADriverThatHangsIsLeftBehindAndDismantledWhenItComesBack) {
  on_platform(
      [] {
        const auto gate = std::make_shared<HiddenGate>();
        Bed bed(sleepy({.freeze = [gate](Deadline) -> Result<void> {
          gate->pass();
          return {};
        }}));
        const platform::TimePoint begin = platform::Clock::now();
        const auto done = bed.context->freeze(bed.device, Deadline::after(100ms));
        EXPECT_LE(platform::Clock::now() - begin, at_most(3s));
        ASSERT_FALSE(done);
        EXPECT_EQ(done.error().code, Errc::kTimeout);
        EXPECT_EQ(bed.context->bound(*bed.device), nullptr);
        EXPECT_FALSE(bed.device->log->has("destructor")) << "it is still inside";
        gate->open();
        EXPECT_TRUE(eventually([&] { return bed.device->log->has("destructor"); }));
      },
      30);
}

TEST(Suspend, ARemovalWaitsForIt) {
  on_platform([] {
    const auto gate = std::make_shared<HiddenGate>();
    Bed bed(sleepy({.freeze = [gate](Deadline) -> Result<void> {
      gate->pass();
      return {};
    }}));
    auto freezer = platform::Thread::create(
        {.name = "freezer"}, [&] { EXPECT_TRUE(bed.context->freeze(bed.device, Deadline::after(100s))); });
    ASSERT_TRUE(freezer);
    ASSERT_TRUE(eventually([&] { return bed.device->log->has("freeze"); }));
    EXPECT_EQ(bed.context->remove(bed.device, Deadline::after(10ms)).error().code, Errc::kTimeout);
    EXPECT_NE(bed.context->bound(*bed.device), nullptr);
    auto remover = platform::Thread::create(
        {.name = "remover"}, [&] { EXPECT_TRUE(bed.context->remove(bed.device, Deadline::after(100s))); });
    ASSERT_TRUE(remover);
    gate->open();
    freezer->join();
    remover->join();
    EXPECT_TRUE(bed.device->log->has("destructor"));
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
