// SPDX-License-Identifier: Apache-2.0
// The same drivers on QEMU's virtio-net-pci, which nobody here wrote.
#include "emulation/qemu/qemu.h"
#include "tests/drivers/bench.h"
#include "tests/sanitized.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using Interface = device::BindOptions::Interface;
using Words = std::vector<std::pair<std::string, std::string>>;

constexpr std::uint32_t kFrames = 10'000;
constexpr std::uint32_t kFramesObserved = 2'000;  // each access is checked there
constexpr std::uint16_t kMtu = 9000;
// A frame of 9,000 bytes takes five buffers that are merged, and the ring has 256.
constexpr std::uint32_t kWindow = 40;

struct Card {
  std::string name;
  Words words;
  Interface interface = Interface::kAuto;
  bool legacy = false;  // what it must come out as
  bool packed = false;
  bool two_descriptors = false;  // the header has one of its own
};

struct Case {
  Card card;
  bool merge = true;
  bool indirect = true;
  bool event_idx = true;
  bool observed = false;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& one = info.param;
  return one.card.name + (one.merge ? "Merge" : "") + (one.indirect ? "Indirect" : "") +
         (one.event_idx ? "EventIdx" : "") + (one.observed ? "Observed" : "Plain");
}

/// Each kind of card and of ring, with and without each feature of the rings, plain and observed.
std::vector<Case> cases() {
  const std::vector<Card> cards = {
      {"Modern", {{"disable-legacy", "on"}}},
      {"ModernPacked", {{"disable-legacy", "on"}, {"packed", "on"}}, Interface::kAuto, false, true},
      {"Legacy", {{"disable-modern", "on"}, {"disable-legacy", "off"}}, Interface::kAuto, true},
      {"LegacyWithoutAnyLayout",
       {{"disable-modern", "on"}, {"disable-legacy", "off"}, {"any_layout", "off"}},
       Interface::kAuto,
       true,
       false,
       true},
      {"TransitionalAsModern", {{"disable-legacy", "off"}}, Interface::kModern},
      {"TransitionalAsModernPacked", {{"disable-legacy", "off"}, {"packed", "on"}}, Interface::kModern, false, true},
      {"TransitionalAsLegacy", {{"disable-legacy", "off"}}, Interface::kLegacy, true},
      {"ModernWithAccessPlatform", {{"disable-legacy", "on"}, {"iommu_platform", "on"}}},
  };
  std::vector<Case> all;
  [[maybe_unused]] unsigned number = 0;
  for (const Card& card : cards) {
    for (unsigned bits = 0; bits < 16; bits++) {
#if defined(UPCI_SANITIZED)
      if (++number % 5 != 0) continue;  // each takes its seconds there
#endif
      all.push_back({card, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0});
    }
  }
  return all;
}

/// Frames that lie in two packets each, out and back again.
void loop_in_two_parts(virtio_net::Nic& nic, std::uint32_t frames) {
  constexpr std::uint32_t kLength = 300;
  constexpr std::uint32_t kFirst = 100;
  Checker checker(frames, {.length = kLength});
  const Deadline deadline = Deadline::after(60s);
  std::uint32_t received = 0;
  for (std::uint32_t number = 0; number < frames && !deadline.expired(); ++number) {
    const std::vector<std::byte> frame = frame_of(nic.mac(), number, kLength);
    std::array<virtio_net::Packet*, 2> parts{};
    ASSERT_EQ(nic.alloc(parts), parts.size());
    std::memcpy(parts[0]->data, frame.data(), kFirst);
    parts[0]->length = kFirst;
    parts[0]->next = parts[1];
    std::memcpy(parts[1]->data, frame.data() + kFirst, kLength - kFirst);
    parts[1]->length = kLength - kFirst;
    ASSERT_EQ(nic.tx_burst(std::span(parts).first(1)), 1U);
    while (received <= number && !deadline.expired()) {
      virtio_net::Packet* packet = nullptr;
      if (nic.rx_burst(std::span(&packet, 1)) == 0) {
        platform::this_thread::yield();
        continue;
      }
      checker.check(*packet);
      nic.free(packet);
      ++received;
    }
  }
  checker.expect_all();
}

class QemuNic : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    emulation::DeviceSpec spec{.uri = "qemu:virtio-net-pci", .model = "virtio-net-pci", .words = {}};
    for (const auto& [key, value] : GetParam().card.words)
      spec.words.push_back({.key = key, .value = value, .has_value = true});
    spec.words.push_back({.key = "host_mtu", .value = std::to_string(kMtu), .has_value = true});
    spec.words.push_back({.key = "mrg_rxbuf", .value = GetParam().merge ? "on" : "off", .has_value = true});
    spec.words.push_back({.key = "indirect_desc", .value = GetParam().indirect ? "on" : "off", .has_value = true});
    spec.words.push_back({.key = "event_idx", .value = GetParam().event_idx ? "on" : "off", .has_value = true});
    auto opened = emulation::qemu::open(spec, bench.cables);
    ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
    report = bench.probe(std::move(*opened), bind(GetParam().observed, GetParam().card.interface), 20s);
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

TEST_P(QemuNic, EveryFrameOf60To9000BytesComesBack) {
  EXPECT_EQ(negotiated("VERSION_1"), !GetParam().card.legacy);
  EXPECT_EQ(negotiated("RING_PACKED"), GetParam().card.packed);
  EXPECT_EQ(negotiated("INDIRECT_DESC"), GetParam().indirect);
  EXPECT_EQ(negotiated("EVENT_IDX"), GetParam().event_idx);
  EXPECT_EQ(negotiated("MRG_RXBUF"), GetParam().merge);
  EXPECT_TRUE(nic->link_up());
  EXPECT_EQ(nic->mtu(), kMtu);

  loop_polled(
      *nic,
      {.frames = GetParam().observed ? kFramesObserved : kFrames, .length = 60, .longest = 9000, .window = kWindow});
  loop_in_two_parts(*nic, 200);
  const virtio_net::NicStats stats = nic->stats();
  EXPECT_GT(stats.kicks, 0U);
  // QEMU takes whole bursts: while it does, it wants to hear of nothing.
  EXPECT_GT(stats.kicks_suppressed, 0U);
  EXPECT_EQ(stats.rx_merged != 0, GetParam().merge);
  // A frame in several packets is a chain.
  EXPECT_EQ(stats.indirect_chains != 0, GetParam().indirect);
  // Who polls wants no interrupts, and hardly any comes.
  EXPECT_LT(stats.interrupts, stats.rx_frames / 10);
}

TEST_P(QemuNic, ByInterruptThereIsOneWakeUpForEach) {
  const Engine& engine = bench.context->engine();
  const std::vector<int> cpus = nic->stats().cpus;
  ASSERT_GE(cpus.size(), 2U);
  const std::uint64_t interrupts_before = nic->stats().interrupts;
  const std::uint64_t wakeups_before = engine.stats(cpus[1]).wakeups;
  constexpr std::uint32_t kSome = 1000;
  loop_by_interrupt(*nic, {.frames = kSome, .length = 60, .longest = 9000, .window = kWindow});
  const virtio_net::NicStats stats = nic->stats();
  const std::uint64_t interrupts = stats.interrupts - interrupts_before;
  const std::uint64_t woken = engine.stats(cpus[1]).wakeups - wakeups_before;
  EXPECT_EQ(stats.rx_frames, kSome);
  EXPECT_GT(interrupts, 0U);
  EXPECT_LE(static_cast<double>(woken), 1.05 * static_cast<double>(interrupts) + 1);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
