// SPDX-License-Identifier: Apache-2.0
// When the receive bottom half is asked for by an interrupt, and when it looks by itself.
#include "tests/drivers/moderation.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

TEST(Moderation, ABusyCardIsPolledAndAnIdleOneIsNot) {
  run(10, [] {
    Bench bench;
    ASSERT_EQ(bench.probe_emu(emu_spec({"modern"}), bind(true), 10s).result, "ok");
    check_adaptive(*bench.nic());
    bench.remove();
  });
}

TEST(Moderation, NoRunDeliversMoreThanItsBudget) {
  run(5, [] {
    Bench bench;
    ASSERT_EQ(bench.probe_emu(emu_spec({"modern"}), bind(false), 10s).result, "ok");
    ASSERT_TRUE(bench.nic()->set_moderation({.budget = 3}));
    Loop loop(*bench.nic());
    loop.run(500, 100);
    EXPECT_LE(loop.largest(), 3U);
    bench.remove();
  });
}

TEST(Moderation, WhatCannotBeIsRefused) {
  run(1, [] {
    Bench bench;
    ASSERT_EQ(bench.probe_emu(emu_spec({"modern"}), bind(false), 10s).result, "ok");
    virtio_net::Nic& nic = *bench.nic();
    EXPECT_FALSE(nic.set_moderation({.budget = 0}));
    EXPECT_FALSE(nic.set_moderation({.budget = 65}));
    EXPECT_FALSE(nic.set_moderation({.busy = 0}));
    EXPECT_FALSE(nic.set_moderation({.busy = 65}));
    EXPECT_FALSE(nic.set_moderation({.idle_polls = 0}));
    const auto negative = nic.set_moderation({.interval = -1ns});
    ASSERT_FALSE(negative);
    EXPECT_EQ(negative.error().code, Errc::kInvalid);
    bench.remove();
  });
}

TEST(Moderation, ARemovalWhileItPollsLeavesNothingBehind) {
  run(20, [] {
    Bench bench;
    ASSERT_EQ(bench.probe_emu(emu_spec({"modern"}), bind(true), 10s).result, "ok");
    ASSERT_TRUE(bench.nic()->set_moderation({.interval = 100us, .busy = 1, .idle_polls = 1'000'000}));
    Loop loop(*bench.nic());
    loop.run(200, 32);
    EXPECT_GT(bench.nic()->stats().rx_polls, 0U);
    bench.remove();
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
