// SPDX-License-Identifier: Apache-2.0
// The unchanged driver on DPDK's vhost without QEMU between: the in-process card has the registers, DPDK works on the rings and
// sends every frame back. So what QEMU 7.2's card does not know and DPDK does is seen here: IN_ORDER.
#include <string>

#include "tests/drivers/bench.h"
#include "tests/drivers/testpmd.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

constexpr std::uint32_t kFrames = 70'000;  // the index goes round
constexpr std::uint32_t kSome = 4'000;
// Of 256 receive buffers up to an eighth may be on their way back: with fewer frames under way than the rest none is dropped.
constexpr std::uint32_t kWindow = 192;

emulation::DeviceSpec card(const std::string& socket, const std::vector<std::string>& words) {
  emulation::DeviceSpec spec = emu_spec(words);
  spec.wire = {.kind = emulation::WireSpec::Kind::kVhostUser, .name = socket};
  return spec;
}

struct Case {
  bool packed = false;
  bool in_order = false;
  bool observed = false;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  return std::string(info.param.packed ? "Packed" : "Split") + (info.param.in_order ? "InOrder" : "") +
         (info.param.observed ? "Observed" : "Plain");
}

class VhostDirect : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!Testpmd::installed()) GTEST_SKIP() << "no dpdk-testpmd: tools/setup installs it (package dpdk-dev)";
    auto started = Testpmd::start({}, Deadline::after(30s));
    ASSERT_TRUE(started) << started.error().message();
    testpmd = std::move(*started);
  }

  device::Report probe(Bench& bench, std::vector<std::string> words = {}) const {
    words.insert(words.end(), {GetParam().packed ? "packed=on" : "packed=off",
                               GetParam().in_order ? "in_order=on" : "in_order=off"});
    const device::Report report = bench.probe_emu(card(testpmd->socket(), words), bind(GetParam().observed), 60s);
    EXPECT_TRUE(report.ok()) << describe(report);
    EXPECT_EQ(has_feature(report, "RING_PACKED"), GetParam().packed);
    EXPECT_EQ(has_feature(report, "IN_ORDER"), GetParam().in_order);
    return report;
  }
  /// All came, and the backend counts as many.
  void expect_backend_counted(std::uint64_t count) {
    const auto counts = testpmd->stop(Deadline::after(20s));
    ASSERT_TRUE(counts) << counts.error().message();
    EXPECT_EQ(counts->received, count);
    EXPECT_EQ(counts->receive_dropped, 0U);
    EXPECT_EQ(counts->send_dropped, 0U) << "the backend's own: our ring had no buffer";
    EXPECT_EQ(counts->sent, count);
  }
  static void expect_clean(virtio_net::Nic& nic) {
    EXPECT_EQ(nic.stats().ring_violations, 0U);
    EXPECT_FALSE(nic.failed().has_value());
  }

  std::unique_ptr<Testpmd> testpmd;
};
INSTANTIATE_TEST_SUITE_P(Rings, VhostDirect,
                         testing::Values(Case{false, false, true}, Case{false, true, false}, Case{false, true, true},
                                         Case{true, false, true}, Case{true, true, false}, Case{true, true, true}),
                         name_of);

TEST_P(VhostDirect, EveryFrameComesBackAsItWas) {
  Bench bench;
  ASSERT_TRUE(probe(bench).ok());
  const std::uint32_t count = GetParam().observed ? kSome : kFrames;
  loop_polled(*bench.nic(), {.frames = count, .length = 60, .longest = 1514, .window = kWindow, .limit = 120s});
  expect_clean(*bench.nic());
  // DPDK 22.11 tells a batch by its last buffer where it dequeues from a packed ring, and nowhere else.
  EXPECT_EQ(bench.nic()->stats().batched_chains != 0, GetParam().packed && GetParam().in_order);
  bench.remove();
  expect_backend_counted(count);
}

TEST_P(VhostDirect, LongFramesAreMergedAndGoOutIndirectly) {
  Bench bench;
  ASSERT_TRUE(probe(bench, {"mtu=9000"}).ok());
  loop_polled(*bench.nic(), {.frames = kSome, .length = 60, .longest = 9000, .window = 32, .limit = 120s});
  expect_clean(*bench.nic());
  EXPECT_GT(bench.nic()->stats().rx_merged, 0U);
  EXPECT_GT(bench.nic()->stats().indirect_chains, 0U);
  bench.remove();
  expect_backend_counted(kSome);
}

TEST_P(VhostDirect, WhatItReceivesIsToldByInterrupt) {
  Bench bench;
  ASSERT_TRUE(probe(bench).ok());
  loop_by_interrupt(*bench.nic(), {.frames = 2'000, .length = 60, .longest = 1514, .window = kWindow, .limit = 120s});
  expect_clean(*bench.nic());
  EXPECT_GT(bench.nic()->stats().interrupts, 0U);
  bench.remove();
  expect_backend_counted(2'000);
}

TEST_P(VhostDirect, AResetIsToldAndTrafficGoesOn) {
  Bench bench;
  ASSERT_TRUE(probe(bench).ok());
  loop_polled(*bench.nic(), {.frames = 1'000, .window = kWindow});
  emulation::emu::request_reset(*bench.backend);
  const Deadline deadline = Deadline::after(30s);
  while (bench.nic()->stats().recoveries == 0 && !deadline.expired()) sleep_for(1ms);
  ASSERT_EQ(bench.nic()->stats().recoveries, 1U);
  loop_polled(*bench.nic(), {.frames = 1'000, .window = kWindow});
  expect_clean(*bench.nic());
  bench.remove();
}

TEST_P(VhostDirect, ABackEndThatGoesAwayEndsTheCardAndNothingElse) {
  Bench bench;
  ASSERT_TRUE(probe(bench).ok());
  loop_polled(*bench.nic(), {.frames = 1'000, .window = kWindow});
  testpmd.reset();
  const Deadline deadline = Deadline::after(60s);
  while (!bench.nic()->failed() && !deadline.expired()) sleep_for(1ms);
  EXPECT_TRUE(bench.nic()->failed().has_value());
  const auto removed = bench.context->remove(bench.device, Deadline::after(20s));
  EXPECT_TRUE(removed) << removed.error().message();
  EXPECT_FALSE(bench.device->state()->quarantined()) << "who has gone touches no memory";
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
