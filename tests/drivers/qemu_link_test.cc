// SPDX-License-Identifier: Apache-2.0
// What happens to a card from outside: its link goes down and up, it is announced anew, it has a speed. QEMU's monitor does it.
#include "emulation/qemu/qemu.h"
#include "tests/drivers/bench.h"
#include "tests/drivers/monitor.h"
#include "virtio/spec/features.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using virtio_net::NicEvent;

struct Card {
  const char* name;
  std::vector<std::string> words;
  device::BindOptions::Interface interface = device::BindOptions::Interface::kAuto;
};
std::string name_of(const testing::TestParamInfo<Card>& info) { return info.param.name; }

class QemuLink : public testing::TestWithParam<Card> {
 protected:
  void open(std::vector<std::string> more = {}) {
    std::vector<std::string> words = GetParam().words;
    words.insert(words.end(), more.begin(), more.end());
    emulation::DeviceSpec spec = emu_spec(words);
    spec.uri = "qemu:virtio-net-pci";
    spec.model = "virtio-net-pci";
    words = Monitor::arguments(folder);
    auto opened = emulation::qemu::open(spec, bench.cables, {.arguments = words});
    ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
    const device::Report report = bench.probe(std::move(*opened), bind(true, GetParam().interface), 10s);
    ASSERT_TRUE(report.ok()) << describe(report);
    nic = bench.nic();
    ASSERT_NE(nic, nullptr);
    nic->set_event_handler([this](NicEvent event) { events[static_cast<std::size_t>(event)].fetch_add(1); });
  }
  void TearDown() override {
    if (nic == nullptr) return;
    EXPECT_EQ(nic->stats().ring_violations, 0U);
    EXPECT_FALSE(nic->failed().has_value());
    bench.remove();
  }
  std::uint32_t count(NicEvent event) { return events[static_cast<std::size_t>(event)].load(); }
  bool comes_to(NicEvent event, std::uint32_t times) {
    const Deadline deadline = Deadline::after(20s);
    while (count(event) < times && !deadline.expired()) sleep_for(1ms);
    return count(event) == times;
  }

  Folder folder;
  std::array<platform::Atomic<std::uint32_t>, 3> events{};
  Bench bench;  // gone before what its card's events are counted in
  virtio_net::Nic* nic = nullptr;
};
using Interface = device::BindOptions::Interface;
INSTANTIATE_TEST_SUITE_P(Cards, QemuLink,
                         testing::Values(Card{"Modern", {"disable-legacy=on"}},
                                         Card{"ModernPacked", {"disable-legacy=on", "packed=on"}},
                                         Card{"ModernByLine", {"disable-legacy=on", "vectors=0"}},
                                         Card{"Legacy", {"disable-modern=on", "disable-legacy=off"}},
                                         Card{"LegacyByLine", {"disable-modern=on", "disable-legacy=off", "vectors=0"}},
                                         Card{"TransitionalAsModern", {"disable-legacy=off"}, Interface::kModern},
                                         Card{"TransitionalAsLegacy", {"disable-legacy=off"}, Interface::kLegacy}),
                         name_of);

TEST_P(QemuLink, GoesDownAndUpAndTrafficGoesOn) {
  open();
  Monitor monitor(folder);
  EXPECT_TRUE(nic->link_up());
  loop_polled(*nic, {.frames = 200});
  for (std::uint32_t flap = 1; flap <= 5; flap++) {
    ASSERT_NE(monitor.run(R"({"execute":"set_link","arguments":{"name":"dut0","up":false}})").find("return"),
              std::string::npos);
    ASSERT_TRUE(comes_to(NicEvent::kLinkDown, flap));
    EXPECT_FALSE(nic->link_up());
    const auto now = nic->update_link(Deadline::after(5s));
    ASSERT_TRUE(now);
    EXPECT_FALSE(*now);
    ASSERT_NE(monitor.run(R"({"execute":"set_link","arguments":{"name":"dut0","up":true}})").find("return"),
              std::string::npos);
    ASSERT_TRUE(comes_to(NicEvent::kLinkUp, flap));
    EXPECT_TRUE(nic->link_up());
    loop_polled(*nic, {.frames = 200});
  }
  EXPECT_EQ(count(NicEvent::kAnnounce), 0U);
}

TEST_P(QemuLink, AnAnnouncementIsToldAndAcknowledged) {
  open();
  Monitor monitor(folder);
  const std::string announce =
      R"({"execute":"announce-self","arguments":{"initial":50,"max":50,"rounds":3,"step":10}})";
  // QEMU asks again only once the last announcement was acknowledged.
  for (std::uint32_t round = 1; round <= 3; round++) {
    ASSERT_NE(monitor.run(announce).find("return"), std::string::npos);
    const Deadline deadline = Deadline::after(20s);
    while (count(NicEvent::kAnnounce) < round && !deadline.expired()) sleep_for(1ms);
    EXPECT_GE(count(NicEvent::kAnnounce), round);
    sleep_for(300ms);  // its further rounds
  }
  EXPECT_EQ(nic->stats().announces, count(NicEvent::kAnnounce));
  EXPECT_EQ(count(NicEvent::kLinkDown), 0U);
  // QEMU sends announcements of its own as well; our end of the wire has sent them back.
  std::array<virtio_net::Packet*, 32> echoes;
  while (const std::size_t got = nic->rx_burst(echoes)) nic->free(std::span(echoes).first(got));
  loop_polled(*nic, {.frames = 200});
}

TEST_P(QemuLink, ItsSpeedAndDuplexAreTold) {
  open({"speed=25000", "duplex=full"});
  const bool legacy = (nic->features() & virtio::spec::mask_of(virtio::spec::feature::kVersion1)) == 0;
  // The bit is the 63rd: the legacy interface has 32.
  EXPECT_EQ(nic->speed(), legacy ? std::nullopt : std::optional<std::uint32_t>(25000));
  EXPECT_EQ(nic->full_duplex(), legacy ? std::nullopt : std::optional<bool>(true));
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
