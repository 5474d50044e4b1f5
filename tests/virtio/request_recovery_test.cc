// SPDX-License-Identifier: Apache-2.0
// A request device that is reset under its requests, because it asks for that or lies, or because it is frozen and restored:
// each request ends once, with a result that says what happened, and the next ones work.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <deque>

#include "tests/virtio/request_rig.h"

#if defined(UPCI_SIM)
#include "tests/sim.h"
#endif

namespace upci::virtio_tests {
namespace {

using namespace std::chrono_literals;
using virtio::OnTrouble;

constexpr virtio::RequestQueueShape kSmall = {.at_most = 16, .slots = 4, .segments = 1, .slot_bytes = 4096};
constexpr std::uint8_t kNeedsReset = 0x40;

template <class F>
void simulate(F body) {
#if defined(UPCI_SIM)
  test::for_each_seed(20, body, {.max_steps = 10'000'000});
#else
  body();
#endif
}

/// Counts what becomes of it.
class Probe final : public virtio::Request {
 public:
  std::size_t prepare(const virtio::RequestMemory& memory, std::span<virtio::Segment> chain) override {
    chain[0] = {.iova = memory.iova, .len = 8, .device_writes = true};
    return 1;
  }
  Result<void> finish(const virtio::RequestMemory&, std::uint32_t length) override {
    ++finished;
    EXPECT_EQ(length, 8U);
    return {};
  }
  std::string describe() const override { return "a probe"; }
  bool cancelled() const { return !result && result.error().sys_errno == ECANCELED; }

  unsigned finished = 0;
};

class RequestReset : public testing::TestWithParam<RigShape> {
 protected:
  /// A thread with `count` requests at once.
  struct Caller {
    Caller(RigBench& bench, std::size_t count, platform::Nanoseconds limit) : probes(count) {
      auto made = platform::Thread::create({.name = "caller"}, [this, &bench, limit] {
        std::vector<virtio::Request*> pointers;
        for (Probe& probe : probes) pointers.push_back(&probe);
        bench.requests->run(pointers, Deadline::after(limit));
        done.store(true);
      });
      EXPECT_TRUE(made);
      thread = std::move(*made);
    }
    std::size_t cancelled() const {
      return static_cast<std::size_t>(
          std::count_if(probes.begin(), probes.end(), [](const Probe& probe) { return probe.cancelled(); }));
    }
    std::size_t good() const {
      return static_cast<std::size_t>(
          std::count_if(probes.begin(), probes.end(), [](const Probe& probe) { return probe.result.has_value(); }));
    }
    std::deque<Probe> probes;
    platform::Atomic<bool> done{false};
    platform::Thread thread;
  };

  static bool eventually(const std::function<bool()>& so) {
    const Deadline patience = Deadline::after(60s);
    while (!so()) {
      if (patience.expired()) return false;
      sleep_for(1ms);
    }
    return true;
  }
  static void answer_all(RigBench& bench) {
    bench.rig->answer = [&bench](const Served& served) { bench.rig->use(served, 8); };
  }
  static void expect_works(RigBench& bench) {
    for (int i = 0; i < 20; ++i) {
      Probe probe;
      const auto result = bench.run(probe, 10s);
      ASSERT_TRUE(result) << result.error().message();
      EXPECT_EQ(probe.finished, 1U);
    }
    EXPECT_FALSE(bench.requests->failed().has_value());
  }
  /// Nothing is left over: each request that was given to the device has ended in one way.
  static void expect_balance(const RigBench& bench) {
    const virtio::RequestStats stats = bench.requests->stats();
    EXPECT_EQ(stats.submitted, stats.completed + stats.cancelled + stats.given_up);
  }
};
std::string shape_name(const testing::TestParamInfo<RigShape>& info) {
  const RigShape& shape = info.param;
  return std::string(shape.legacy ? "Legacy" : "") + (shape.packed ? "Packed" : "Split") +
         (shape.indirect ? "Indirect" : "") + (shape.observed ? "Observed" : "Plain");
}
INSTANTIATE_TEST_SUITE_P(Rings, RequestReset,
                         testing::Values(RigShape{}, RigShape{.observed = true}, RigShape{.packed = true},
                                         RigShape{.packed = true, .observed = true},
                                         RigShape{.observed = true, .legacy = true}),
                         shape_name);

TEST_P(RequestReset, WhatTheDeviceHadIsCancelledOnceAndWhatItHadNotGoesAfterwards) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    // Keeps the first four, all that there are slots for.
    Caller caller(bench, 6, 100s);
    ASSERT_TRUE(eventually([&] { return bench.requests->stats().submitted == 4; }));
    answer_all(bench);
    bench.rig->the_status.fetch_or(kNeedsReset);
    caller.thread.join();
    EXPECT_EQ(caller.cancelled(), 4U);
    EXPECT_EQ(caller.good(), 2U);
    for (const Probe& probe : caller.probes) EXPECT_EQ(probe.finished, probe.result ? 1U : 0U);
    const auto stats = bench.requests->stats();
    EXPECT_EQ(stats.cancelled, 4U);
    EXPECT_EQ(stats.recoveries, 1U);
    EXPECT_EQ(stats.given_up, 0U);
    expect_works(bench);
    expect_balance(bench);
  });
}

TEST_P(RequestReset, WhatTheDeviceReturnedBeforeItWasResetIsGood) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    // It returns two of the four at the last moment: when the ring is looked at by nobody but who resets it.
    bench.rig->on_reset = [&] {
      if (bench.rig->held.size() != 4) return;
      for (int i = 0; i < 2; ++i) bench.rig->use(bench.rig->held[static_cast<std::size_t>(i)], 8);
    };
    Caller caller(bench, 4, 100s);
    ASSERT_TRUE(eventually([&] { return bench.requests->stats().submitted == 4; }));
    bench.rig->the_status.fetch_or(kNeedsReset);
    caller.thread.join();
    EXPECT_EQ(caller.good(), 2U);
    EXPECT_EQ(caller.cancelled(), 2U);
    answer_all(bench);
    expect_works(bench);
    expect_balance(bench);
  });
}

TEST_P(RequestReset, ALieInTheRingIsRecoveredFromAsWell) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    bench.rig->answer = [&](const Served&) { bench.rig->use_id(0x7fff, 8); };
    Probe probe;
    EXPECT_FALSE(bench.run(probe, 100s));
    EXPECT_TRUE(probe.cancelled()) << probe.result.error().message();
    EXPECT_TRUE(eventually([&] { return bench.requests->stats().recoveries == 1; }));
    answer_all(bench);
    expect_works(bench);
    expect_balance(bench);
  });
}

TEST_P(RequestReset, ADeviceThatNeedsTooManyOfThemHasFailed) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    bench.rig->answer = [&](const Served&) { bench.rig->use_id(0x7fff, 8); };
    for (unsigned i = 0; i < virtio::ResetBudget::kMostInARow; ++i) {
      Probe probe;
      EXPECT_FALSE(bench.run(probe, 100s));
      EXPECT_TRUE(probe.cancelled()) << i;
    }
    Probe last;
    EXPECT_FALSE(bench.run(last, 100s));
    EXPECT_EQ(last.result.error().step, "ring");
    EXPECT_TRUE(bench.requests->failed().has_value());
    EXPECT_EQ(bench.requests->stats().recoveries, virtio::ResetBudget::kMostInARow);
    expect_balance(bench);
  });
}

#if defined(UPCI_SIM)  // five seconds, each
TEST_P(RequestReset, OneThatDoesNotEndFailsTheDeviceAndItsMemoryStaysWithIt) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    bench.rig->ignores_reset.store(true);
    Caller caller(bench, 6, 1000s);
    ASSERT_TRUE(eventually([&] { return bench.requests->stats().submitted == 4; }));
    bench.rig->the_status.fetch_or(kNeedsReset);
    caller.thread.join();
    for (const Probe& probe : caller.probes) {
      ASSERT_FALSE(probe.result);
      EXPECT_EQ(probe.result.error().step, "reset");
      EXPECT_EQ(probe.result.error().verdict, Verdict::kStuck);
    }
    EXPECT_EQ(bench.requests->stats().given_up, 4U);
    EXPECT_EQ(bench.requests->stats().cancelled, 0U) << "it may still write to them";
    expect_balance(bench);
  });
}
#endif

TEST_P(RequestReset, ALostRequestsMemoryServesAgainAfterIt) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    ASSERT_TRUE(eventually([&] {  // on a busy machine one's time may be over before its turn comes
      Probe probe;
      EXPECT_EQ(bench.run(probe, 10ms).error().verdict, Verdict::kStuck);
      return bench.requests->stats().submitted == 4;
    }));
    answer_all(bench);
    bench.rig->the_status.fetch_or(kNeedsReset);
    // There is no slot left: it waits until the reset has brought them back.
    expect_works(bench);
    EXPECT_EQ(bench.requests->stats().recoveries, 1U);
    EXPECT_EQ(bench.requests->stats().returned_late, 4U);
    expect_balance(bench);
  });
}

TEST_P(RequestReset, AFrozenDeviceIsResetAndAskedForNothingUntilItIsRestored) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    Caller caller(bench, 6, 1000s);
    ASSERT_TRUE(eventually([&] { return bench.requests->stats().submitted == 4; }));
    const platform::TimePoint begin = platform::Clock::now();
    const auto frozen = bench.requests->freeze(Deadline::after(400ms));
    ASSERT_TRUE(frozen) << frozen.error().message();
    EXPECT_GE(platform::Clock::now() - begin, 200ms) << "half of the time they may still come back";
    EXPECT_EQ(bench.rig->the_status.load(), 0);
    EXPECT_EQ(bench.requests->stats().cancelled, 4U);
    EXPECT_EQ(bench.requests->freeze(Deadline::after(1s)).error().code, Errc::kState);
    answer_all(bench);
    Probe early;
    const auto refused = bench.run(early, 50ms);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kState) << refused.error().message();
    EXPECT_EQ(bench.requests->stats().submitted, 4U);
    EXPECT_FALSE(caller.done.load()) << "the two that the device had not seen wait";
    ASSERT_TRUE(bench.requests->restore(Deadline::after(1s)));
    caller.thread.join();
    EXPECT_EQ(caller.good(), 2U);
    EXPECT_EQ(caller.cancelled(), 4U);
    EXPECT_EQ(bench.requests->restore(Deadline::after(1s)).error().code, Errc::kState);
    expect_works(bench);
    expect_balance(bench);
    EXPECT_EQ(bench.requests->stats().recoveries, 0U);
  });
}

TEST_P(RequestReset, AFreezeLetsWhatTheDeviceHasComeToItsEnd) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    Caller caller(bench, 3, 1000s);
    ASSERT_TRUE(eventually([&] { return bench.requests->stats().submitted == 3; }));
    const std::deque<Served> held = bench.rig->held;
    auto sleeper = platform::Thread::create({.name = "freezer"}, [&] {
      const auto frozen = bench.requests->freeze(Deadline::after(100s));
      EXPECT_TRUE(frozen) << frozen.error().message();
    });
    ASSERT_TRUE(sleeper);
    sleep_for(20ms);
    for (const Served& served : held) bench.rig->use(served, 8);
    sleeper->join();
    caller.thread.join();
    EXPECT_EQ(caller.good(), 3U);
    EXPECT_EQ(bench.requests->stats().cancelled, 0U);
    answer_all(bench);
    ASSERT_TRUE(bench.requests->restore(Deadline::after(1s)));
    expect_works(bench);
  });
}

TEST_P(RequestReset, ARestoreThatFailsLeavesItFrozenAndAnotherOneMayDo) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    answer_all(bench);
    ASSERT_TRUE(bench.requests->freeze(Deadline::after(1s)));
    bench.rig->the_status.store(0x0f);
    bench.rig->ignores_reset.store(true);
    const auto stuck = bench.requests->restore(Deadline::after(50ms));
    ASSERT_FALSE(stuck);
    EXPECT_EQ(stuck.error().step, "reset");
    bench.rig->ignores_reset.store(false);
    const auto restored = bench.requests->restore(Deadline::after(1s));
    ASSERT_TRUE(restored) << restored.error().message();
    expect_works(bench);
  });
}

TEST_P(RequestReset, ADeviceThatCannotBeSilencedHasFailedAndKeepsItsMemory) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    bench.rig->ignores_reset.store(true);
    Caller caller(bench, 2, 1000s);
    ASSERT_TRUE(eventually([&] { return bench.requests->stats().submitted == 2; }));
    EXPECT_FALSE(bench.requests->freeze(Deadline::after(100ms)));
    caller.thread.join();
    EXPECT_TRUE(bench.requests->failed().has_value());
    EXPECT_EQ(bench.requests->stats().given_up, 2U);
    EXPECT_EQ(bench.requests->stats().cancelled, 0U);
    // The rig's memory is to be freed at the end of this test, quarantined or not.
    bench.rig->rig_device().state()->set_quarantined(false);
  });
}

TEST_P(RequestReset, ARemovalEndsWhoWaitsForAFrozenDeviceAtOnce) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    ASSERT_TRUE(bench.requests->freeze(Deadline::after(1s)));
    Caller caller(bench, 2, 1000s);
    sleep_for(10ms);
    const platform::TimePoint begin = platform::Clock::now();
    EXPECT_TRUE(bench.requests->quiesce(Deadline::after(100s)));
    EXPECT_LT(platform::Clock::now() - begin, 30s);
    caller.thread.join();
    for (const Probe& probe : caller.probes) EXPECT_EQ(probe.result.error().code, Errc::kState);
    EXPECT_EQ(bench.requests->stats().submitted, 0U);
  });
}

TEST_P(RequestReset, ARemovalInTheMiddleOfOneEndsEachCall) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall, OnTrouble::kReset);
    Caller caller(bench, 6, 1000s);
    ASSERT_TRUE(eventually([&] { return bench.requests->stats().submitted == 4; }));
    bench.rig->the_status.fetch_or(kNeedsReset);
    EXPECT_TRUE(bench.requests->quiesce(Deadline::after(1s)));
    caller.thread.join();
    for (const Probe& probe : caller.probes) EXPECT_FALSE(probe.result) << "nothing was answered";
    expect_balance(bench);
  });
}

}  // namespace
}  // namespace upci::virtio_tests
