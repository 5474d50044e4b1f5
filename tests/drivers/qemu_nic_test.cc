// SPDX-License-Identifier: Apache-2.0
// The same drivers on QEMU's virtio-net-pci, which nobody here wrote.
#include "emulation/qemu/qemu.h"
#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using Interface = device::BindOptions::Interface;
using Words = std::vector<std::pair<std::string, std::string>>;

constexpr std::uint32_t kFrames = 2000;

struct Card {
  std::string name;
  Words words;
  Interface interface = Interface::kAuto;
  bool legacy = false;  // what it must come out as
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
      {"Modern", {{"disable-legacy", "on"}}},
      {"Legacy", {{"disable-modern", "on"}, {"disable-legacy", "off"}}, Interface::kAuto, true},
      {"TransitionalAsModern", {{"disable-legacy", "off"}}, Interface::kModern},
      {"TransitionalAsLegacy", {{"disable-legacy", "off"}}, Interface::kLegacy, true},
      {"ModernOfferingPackedRings", {{"disable-legacy", "on"}, {"packed", "on"}}},
      {"ModernWithAccessPlatform", {{"disable-legacy", "on"}, {"iommu_platform", "on"}}},
  };
  std::vector<Case> all;
  for (const Card& card : cards) {
    for (const bool observed : {false, true}) all.push_back({card, observed});
  }
  return all;
}

class QemuNic : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    emulation::DeviceSpec spec{.uri = "qemu:virtio-net-pci", .model = "virtio-net-pci", .words = {}};
    for (const auto& [key, value] : GetParam().card.words)
      spec.words.push_back({.key = key, .value = value, .has_value = true});
    auto opened = emulation::qemu::open(spec, bench.cables);
    ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
    report = bench.probe(std::move(*opened), bind(GetParam().observed, GetParam().card.interface), 5s);
    ASSERT_TRUE(report.ok()) << describe(report);
    nic = bench.nic();
    ASSERT_NE(nic, nullptr);
  }
  void TearDown() override {
    if (nic == nullptr) return;
    EXPECT_EQ(nic->stats().ring_violations, 0U);
    EXPECT_EQ(nic->stats().ring_accesses != 0, GetParam().observed);
    EXPECT_FALSE(nic->failed().has_value());
    bench.remove();
  }

  bool negotiated(std::string_view feature) const {
    return std::find(report.features.begin(), report.features.end(), feature) != report.features.end();
  }

  Bench bench;
  device::Report report;
  virtio_net::Nic* nic = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Cards, QemuNic, testing::ValuesIn(cases()), name_of);

TEST_P(QemuNic, NegotiatesWhatTheDriverCanUseAndNoMore) {
  EXPECT_EQ(negotiated("VERSION_1"), !GetParam().card.legacy);
  EXPECT_TRUE(negotiated("MAC"));
  EXPECT_TRUE(negotiated("STATUS"));
  EXPECT_FALSE(negotiated("RING_PACKED"));
  EXPECT_FALSE(negotiated("MRG_RXBUF"));
  EXPECT_TRUE(nic->link_up());
}

TEST_P(QemuNic, EveryFrameComesBackPolled) { loop_polled(*nic, {.frames = kFrames, .window = 64}); }

TEST_P(QemuNic, EveryFrameComesBackByInterruptWithOneWakeUpEach) {
  const Engine& engine = bench.context->engine();
  const std::vector<int> cpus = nic->stats().cpus;
  ASSERT_GE(cpus.size(), 2U);
  const std::uint64_t interrupts_before = nic->stats().interrupts;
  const std::uint64_t wakeups_before = engine.stats(cpus[1]).wakeups;
  loop_by_interrupt(*nic, {.frames = kFrames, .window = 64});
  const virtio_net::NicStats stats = nic->stats();
  const std::uint64_t interrupts = stats.interrupts - interrupts_before;
  const std::uint64_t woken = engine.stats(cpus[1]).wakeups - wakeups_before;
  EXPECT_EQ(stats.rx_frames, kFrames);
  EXPECT_GT(interrupts, 0U);
  EXPECT_LE(static_cast<double>(woken), 1.05 * static_cast<double>(interrupts) + 1);
}

TEST_P(QemuNic, TheLongestFramesComeBackWhole) { loop_polled(*nic, {.frames = 200, .length = 1514, .window = 32}); }

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
