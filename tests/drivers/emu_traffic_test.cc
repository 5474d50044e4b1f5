// SPDX-License-Identifier: Apache-2.0
// Frames over emu: cards, by each interface, each access policy, polled and by interrupt.
#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using Interface = device::BindOptions::Interface;

#if defined(UPCI_SIM)
constexpr std::uint32_t kFrames = 200;
constexpr unsigned kSeeds = 20;
#else
constexpr std::uint32_t kFrames = 10'000;
constexpr unsigned kSeeds = 1;
#endif

struct Card {
  std::string name;
  std::vector<std::string> words;
  Interface interface = Interface::kAuto;
};

struct Case {
  Card card;
  bool observed = false;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  return info.param.card.name + (info.param.observed ? "Observed" : "Plain");
}

std::vector<Case> cases() {
  const std::vector<Card> cards = {
      {"Modern", {"modern"}},
      {"ModernWithoutAccessPlatform", {"modern", "access_platform=off"}},
      {"Legacy", {"legacy"}},
      {"TransitionalAsModern", {"transitional"}, Interface::kModern},
      {"TransitionalAsLegacy", {"transitional"}, Interface::kLegacy},
      {"TwoVectors", {"modern", "vectors=2"}},
      {"SmallQueues", {"modern", "queue_size=4"}},
      {"SmallLegacyQueues", {"legacy", "queue_size=4"}},
      {"LargeLegacyQueues", {"legacy", "queue_size=4096"}},
      {"LargeMtu", {"modern", "mtu=9000"}},
      {"Packed", {"modern", "packed=on"}},
      {"PackedDirectWithoutEventIdx", {"modern", "packed=on", "event_idx=off", "indirect_desc=off"}},
      {"PackedBigPackets", {"modern", "packed=on", "mtu=9000", "mrg_rxbuf=off"}},
      {"PackedDirectBigPackets", {"modern", "packed=on", "mtu=9000", "mrg_rxbuf=off", "indirect_desc=off"}},
      {"SmallPackedQueues", {"modern", "packed=on", "queue_size=4"}},
      {"OddPackedQueues", {"modern", "packed=on", "queue_size=37"}},
  };
  std::vector<Case> all;
  for (const Card& card : cards) {
    for (const bool observed : {false, true}) all.push_back({card, observed});
  }
  return all;
}

class EmuTraffic : public testing::TestWithParam<Case> {
 protected:
  template <class F>
  void with_nic(F body) {
    run(kSeeds, [&] {
      Bench bench;
      const Case& wanted = GetParam();
      const device::Report report =
          bench.probe_emu(emu_spec(wanted.card.words), bind(wanted.observed, wanted.card.interface));
      ASSERT_TRUE(report.ok()) << describe(report);
      virtio_net::Nic* nic = bench.nic();
      ASSERT_NE(nic, nullptr);
      body(*nic);
      const virtio_net::NicStats stats = nic->stats();
      EXPECT_EQ(stats.ring_violations, 0U);
      EXPECT_EQ(stats.ring_accesses != 0, wanted.observed);
      EXPECT_EQ(stats.rx_short, 0U);
      EXPECT_EQ(stats.tx_invalid, 0U);
      EXPECT_FALSE(nic->failed().has_value());
      bench.remove();
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Cards, EmuTraffic, testing::ValuesIn(cases()), name_of);

TEST_P(EmuTraffic, EveryFrameComesBackPolled) {
  with_nic([](virtio_net::Nic& nic) {
    loop_polled(nic, {.frames = kFrames, .length = 60});
    EXPECT_EQ(nic.stats().tx_frames, kFrames);
    EXPECT_EQ(nic.stats().rx_frames, kFrames);
    EXPECT_EQ(nic.stats().rx_bytes, kFrames * 60U);
  });
}

TEST_P(EmuTraffic, EveryFrameComesBackByInterrupt) {
  with_nic([](virtio_net::Nic& nic) {
    loop_by_interrupt(nic, {.frames = kFrames, .length = 60});
    const virtio_net::NicStats stats = nic.stats();
    EXPECT_EQ(stats.rx_frames, kFrames);
    EXPECT_GT(stats.interrupts, 0U);
    EXPECT_GE(stats.interrupts, stats.top_halves);
    EXPECT_GT(stats.bottom_halves, 0U);
  });
}

TEST_P(EmuTraffic, TheLongestFramesComeBackWhole) {
  with_nic([](virtio_net::Nic& nic) { loop_polled(nic, {.frames = kFrames / 10, .length = nic.mtu() + 14U}); });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
