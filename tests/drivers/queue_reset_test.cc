// SPDX-License-Identifier: Apache-2.0
// What the in-process card offers on request: RING_RESET, NOTIFICATION_DATA, ORDER_PLATFORM.
#include "tests/drivers/queue_reset.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

bool has(const device::Report& report, std::string_view feature) {
  return std::find(report.features.begin(), report.features.end(), feature) != report.features.end();
}

TEST(QueueReset, ABrokenRingIsMendedWithoutAResetOfTheCard) {
  run(10, [] {
    Lies lies;
    Bench bench(liars(lies, 1));
    const device::Report report = bench.probe_emu(emu_spec({"modern", "ring_reset=on"}), bind(true), 10s);
    ASSERT_EQ(report.result, "ok");
    EXPECT_TRUE(has(report, "RING_RESET"));
    break_a_ring(*bench.nic(), lies, 3);
    EXPECT_EQ(bench.nic()->stats().queue_resets, 3U);
    bench.remove();
  });
}

TEST(QueueReset, WhatLayInABrokenReceiveRingIsCounted) {
  run(10, [] {
    for (const char* ring_reset : {"ring_reset=on", "ring_reset=off"}) {
      Lies lies;
      Bench bench(liars(lies, 0));
      ASSERT_EQ(bench.probe_emu(emu_spec({"modern", ring_reset}), bind(true), 10s).result, "ok");
      EXPECT_EQ(bench.nic()->stats().rx_lost, 0U);
      break_a_ring(*bench.nic(), lies, 1);
      const virtio_net::NicStats stats = bench.nic()->stats();
      EXPECT_GT(stats.rx_lost, 0U);
      EXPECT_LE(stats.rx_lost, 256U);
      bench.remove();
    }
  });
}

TEST(QueueReset, WithoutTheFeatureTheWholeCardIsReset) {
  run(5, [] {
    Lies lies;
    Bench bench(liars(lies, 1));
    ASSERT_EQ(bench.probe_emu(emu_spec({"modern"}), bind(true), 10s).result, "ok");
    break_a_ring(*bench.nic(), lies, 1);
    EXPECT_EQ(bench.nic()->stats().queue_resets, 0U);
    bench.remove();
  });
}

TEST(QueueReset, ACardThatAsksToBeResetIsResetAsAWhole) {
  run(5, [] {
    Bench bench;
    ASSERT_EQ(bench.probe_emu(emu_spec({"modern", "ring_reset=on"}), bind(true), 10s).result, "ok");
    loop_polled(*bench.nic(), {.frames = 100});
    emulation::emu::request_reset(*bench.backend);
    const Deadline deadline = Deadline::after(20s);
    while (bench.nic()->stats().recoveries == 0 && !deadline.expired()) sleep_for(1ms);
    EXPECT_EQ(bench.nic()->stats().recoveries, 1U);
    EXPECT_EQ(bench.nic()->stats().queue_resets, 0U);
    loop_polled(*bench.nic(), {.frames = 100});
    bench.remove();
  });
}

// The card compares each notification with the ring; remove() fails where one was wrong.
TEST(NotificationData, EachNotificationSaysWhereTheRingStands) {
  run(10, [] {
    for (const bool event_idx : {true, false}) {
      Bench bench;
      const device::Report report = bench.probe_emu(emu_spec({"modern", "notification_data=on", "order_platform=on",
                                                              event_idx ? "event_idx=on" : "event_idx=off"}),
                                                    bind(true), 10s);
      ASSERT_EQ(report.result, "ok");
      EXPECT_TRUE(has(report, "NOTIFICATION_DATA"));
      EXPECT_TRUE(has(report, "ORDER_PLATFORM"));
#if defined(UPCI_SIM)
      loop_polled(*bench.nic(), {.frames = 600});
#else
      loop_polled(*bench.nic(), {.frames = 70'000});  // the index goes round
#endif
      EXPECT_GT(bench.nic()->stats().kicks, 0U);
      bench.remove();
    }
  });
}

TEST(NotificationData, DeclinedItIsNotUsed) {
  run(2, [] {
    Bench bench;
    device::BindOptions options = bind(true);
    options.decline_features = {"NOTIFICATION_DATA", "ORDER_PLATFORM", "RING_RESET"};
    const device::Report report = bench.probe_emu(
        emu_spec({"modern", "notification_data=on", "order_platform=on", "ring_reset=on"}), options, 10s);
    ASSERT_EQ(report.result, "ok");
    EXPECT_FALSE(has(report, "NOTIFICATION_DATA"));
    EXPECT_FALSE(has(report, "ORDER_PLATFORM"));
    EXPECT_FALSE(has(report, "RING_RESET"));
    loop_polled(*bench.nic(), {.frames = 100});
    bench.remove();
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
