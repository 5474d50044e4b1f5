// SPDX-License-Identifier: Apache-2.0
// RING_RESET, which the in-process card offers on request.
#include "tests/drivers/queue_reset.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

TEST(QueueReset, ABrokenRingIsMendedWithoutAResetOfTheCard) {
  run(10, [] {
    Lies lies;
    Bench bench(liars(lies, 1));
    const device::Report report = bench.probe_emu(emu_spec({"modern", "ring_reset=on"}), bind(true), 10s);
    ASSERT_EQ(report.result, "ok");
    EXPECT_TRUE(has_feature(report, "RING_RESET"));
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

// It takes a part of the time only: enough is left for the card.
TEST(QueueReset, AQueueThatIsNeverResetLeadsToAResetOfTheCard) {
  run(5, [] {
    Lies lies;
    Bench bench(liars(lies, 1));
    ASSERT_EQ(bench.probe_emu(emu_spec({"modern", "ring_reset=on"}, "queue-reset-stuck"), bind(true), 10s).result,
              "ok");
    break_a_ring(*bench.nic(), lies, 1);
    EXPECT_EQ(bench.nic()->stats().queue_resets, 0U);
    EXPECT_FALSE(bench.nic()->failed().has_value());
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

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
