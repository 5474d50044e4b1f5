// SPDX-License-Identifier: Apache-2.0
// Contexts that end: with a probe that is stuck, with one that is under way, and side by side.
#include <gtest/gtest.h>

#include "tests/device/fake_device.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

TEST(Teardown, TwoContextsLiveSideBySideAndEndEachForItself) {
  on_platform([] {
    auto one = make_context();
    auto two = make_context();
    auto first = make_device(*one, "fake:one", binds);
    auto second = make_device(*two, "fake:two", binds);
    EXPECT_EQ(one->probe(first, 1s).result, "ok");
    EXPECT_EQ(two->probe(second, 1s).result, "ok");
    one.reset();
    EXPECT_TRUE(first->log->has("destructor"));
    EXPECT_NE(two->bound(*second), nullptr);
    EXPECT_FALSE(second->log->has("quiesce"));
    two.reset();
    EXPECT_TRUE(second->log->has("destructor"));
  });
}

TEST(Teardown, WhileAProbeIsStuckLeavesNothingBehind) {
  on_platform([] {
    const auto before = device::quarantine::totals();
    std::shared_ptr<EventLog> log;
    HiddenGate gate;
    {
      auto context = make_context();
      auto device =
          make_device(*context, "fake:stuck", [&](FakeDevice& fake, Deadline) -> Result<std::unique_ptr<Bound>> {
            auto bound = std::make_unique<FakeBound>(fake);
            UPCI_TRY_ASSIGN(bound->memory, fake.dma_alloc({.len = 4096}));
            gate.pass();
            return bound;
          });
      log = device->log;
      EXPECT_EQ(context->probe(device, 300ms).result, "stuck");
      auto opener = platform::Thread::create({.name = "opener"}, [&] {
        platform::this_thread::sleep_until(platform::Clock::now() + 20ms);
        gate.open();  // while the context waits for it
      });
      ASSERT_TRUE(opener.has_value());
      device.reset();
      context.reset();
      opener->join();
    }
    EXPECT_TRUE(log->has("destructor"));
    EXPECT_TRUE(log->has("device closed"));
    EXPECT_EQ(device::quarantine::totals().regions, before.regions);
  });
}

TEST(Teardown, EndsAProbeThatIsUnderWayInAnotherThread) {
  on_platform([] {
    auto context = make_context();
    auto device = make_device(*context, "fake:under way", resets);
    device->status.store(1);
    platform::Atomic<bool> reads{false};
    device->on_read = [&]() -> std::uint64_t {
      reads.store(true);
      return 1;
    };
    auto prober = platform::Thread::create({.name = "prober"}, [&] {
      const Report report = context->probe(device, 1h);
      EXPECT_EQ(report.result, "gone");
    });
    ASSERT_TRUE(prober.has_value());
    ASSERT_TRUE(eventually([&] { return reads.load(); }));
    context.reset();  // long before the hour is over
    prober->join();
    EXPECT_TRUE(device->log->has("abandon"));
  });
}

TEST(Teardown, EndsAProbeThatIgnoresIt) {
  on_platform([] {
    auto context = make_context();
    HiddenGate gate;
    platform::Atomic<bool> inside{false};
    auto device = make_device(*context, "fake:deaf", [&](FakeDevice&, Deadline) -> Result<std::unique_ptr<Bound>> {
      inside.store(true);
      gate.pass();
      return fail(Errc::kState, "came back");
    });
    auto prober = platform::Thread::create({.name = "prober"}, [&] {
      EXPECT_EQ(context->probe(device, 500ms).result, "stuck");
      gate.open();
    });
    ASSERT_TRUE(prober.has_value());
    ASSERT_TRUE(eventually([&] { return inside.load(); }));
    context.reset();
    prober->join();
  });
}

#if !defined(UPCI_SIM)
TEST(Teardown, AnEngineWhoseWorkerIsStillInADriverOutlivesItsContextUntilItComesBack) {
  HiddenGate gate;
  auto created = Context::create({.engine = {.topology = small_topology(), .teardown = 50ms}});
  ASSERT_TRUE(created.has_value());
  std::unique_ptr<Context> context = std::move(*created);
  context->add_driver(std::make_unique<FakeDriver>());
  auto device = make_device(*context, "fake:lost", [&](FakeDevice& fake, Deadline) -> Result<std::unique_ptr<Bound>> {
    auto bound = std::make_unique<FakeBound>(fake);
    UPCI_TRY_ASSIGN(bound->memory, fake.dma_alloc({.len = 4096}));
    gate.pass();
    return bound;
  });
  const auto log = device->log;
  EXPECT_EQ(context->probe(device, 300ms).result, "stuck");
  device.reset();
  context.reset();  // cannot wait for it
  EXPECT_FALSE(log->has("destructor"));
  gate.open();  // the late worker uses its engine, its driver and its device
  const Deadline patience = Deadline::after(30s);
  while (!log->has("device closed") && !patience.expired()) sleep_for(1ms);
  EXPECT_TRUE(log->has("destructor"));
  EXPECT_TRUE(log->has("device closed"));
  make_context();  // sweeps the engine that was kept
}
#endif

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
