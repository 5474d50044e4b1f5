// SPDX-License-Identifier: Apache-2.0
// A bound device that its lender wants back: the driver is told, the device removed and given back.
#include <gtest/gtest.h>

#include "tests/device/fake_device.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Notice = device::DeviceControl::Notice;

class LentBound final : public Bound {
 public:
  explicit LentBound(FakeDevice& device) : log_(device.log) {}
  ~LentBound() override {
    log_->add("destructor");
    gone->complete();
  }
  Result<void> quiesce(Deadline) override {
    log_->add("quiesce");
    return {};
  }
  void withdrawn(const Error& error) override {
    EXPECT_EQ(error.verdict, Verdict::kGone);
    EXPECT_FALSE(error.advice.empty());
    log_->add("told");
  }
  std::shared_ptr<Completion> gone = std::make_shared<Completion>();

 private:
  const std::shared_ptr<EventLog> log_;
};

struct Lent {
  std::shared_ptr<FakeDevice> device;
  std::shared_ptr<Completion> gone;
};

Lent lend(Context& context) {
  Lent lent;
  lent.device = make_device(context, "fake:lent", [&lent](FakeDevice& device, Deadline) {
    auto bound = std::make_unique<LentBound>(device);
    lent.gone = bound->gone;
    return Result<std::unique_ptr<Bound>>(std::move(bound));
  });
  lent.device->control().notice_event = EventFd::create().value();
  EXPECT_EQ(context.probe(lent.device, 1s).result, "ok");
  return lent;
}

std::vector<std::string> after_bound(const EventLog& log) {
  auto events = log.all();
  events.erase(events.begin(), std::find(events.begin(), events.end(), "bound"));
  return events;
}

const std::vector<std::string> kWithdrawn = {"bound",          "told",  "unbinding",  "quiesce",
                                             "bus master off", "reset", "destructor", "given back"};

TEST(Withdrawal, TheContextTellsTheDriverRemovesTheDeviceAndGivesItBack) {
  on_platform([] {
    auto context = make_context();
    const Lent lent = lend(*context);
    lent.device->control().withdraw();
    ASSERT_TRUE(lent.gone->wait(Deadline::after(30s)));
    context.reset();  // waits for the removal under way
    EXPECT_EQ(after_bound(*lent.device->log), kWithdrawn);
  });
}

TEST(Withdrawal, AnApplicationThatAskedForItIsToldAndRemovesTheDeviceItself) {
  on_platform([] {
    Completion told;
    std::shared_ptr<Device> which;
    auto created = Context::create(
        {.engine = {.topology = small_topology()}, .withdrawn = [&](const std::shared_ptr<Device>& device) {
           which = device;
           told.complete();
         }});
    ASSERT_TRUE(created);
    Context& context = **created;
    context.add_driver(std::make_unique<FakeDriver>());
    const Lent lent = lend(context);
    lent.device->control().withdraw(Notice::kError);
    ASSERT_TRUE(told.wait(Deadline::after(30s)));
    EXPECT_EQ(which, lent.device);
    which.reset();
    EXPECT_NE(context.bound(*lent.device), nullptr);  // nothing is removed behind the application's back
    EXPECT_TRUE(context.remove(lent.device, Deadline::after(1s)).has_value());
    EXPECT_EQ(after_bound(*lent.device->log), kWithdrawn);
  });
}

// Either removes it, the device is given back once, and nothing is left.
TEST(Withdrawal, MayMeetARemovalOrTheEndOfTheContext) {
  for (const bool by_remove : {true, false}) {
    on_platform([by_remove] {
      auto context = make_context();
      const Lent lent = lend(*context);
      lent.device->control().withdraw();
      if (by_remove) {
        // Errors where the withdrawal came first.
        static_cast<void>(context->remove(lent.device, Deadline::after(1s)));
      }
      context.reset();
      const auto events = lent.device->log->all();
      for (const char* once : {"quiesce", "destructor", "given back"}) {
        EXPECT_EQ(std::count(events.begin(), events.end(), once), 1) << once;
      }
    });
  }
}

TEST(Withdrawal, ADeviceThatIsRemovedInGoodTimeIsNotGivenBack) {
  on_platform([] {
    auto context = make_context();
    const Lent lent = lend(*context);
    EXPECT_TRUE(context->remove(lent.device, Deadline::after(1s)).has_value());
    lent.device->control().withdraw();  // nobody watches any more
    EXPECT_FALSE(lent.device->log->has("told"));
    EXPECT_FALSE(lent.device->log->has("given back"));
  });
}

// Not at the deadline: a lender does not wait so long.
TEST(Withdrawal, EndsAWaitOfTheProbe) {
  on_platform([] {
    auto context = make_context();
    std::shared_ptr<FakeDevice> device;
    device = make_device(*context, "fake:lent", [](FakeDevice& probed, Deadline deadline) {
      probed.control().withdraw();
      auto seen = device::wait_for_register(*probed.state(), probed.control(),
                                            {.step = "reset",
                                             .reg = "device_status",
                                             .deadline = deadline,
                                             .read = [] { return std::uint64_t{4}; },
                                             .judge = [](std::uint64_t) { return device::WaitStep::kAgain; }});
      EXPECT_FALSE(seen);
      return Result<std::unique_ptr<Bound>>(std::unexpected(std::move(seen).error()));
    });
    const Report report = context->probe(device, 1h);
    EXPECT_EQ(report.result, "gone");
    EXPECT_EQ(report.step, "reset");
    EXPECT_LT(report.elapsed, 30min);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
