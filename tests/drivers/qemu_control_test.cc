// SPDX-License-Identifier: Apache-2.0
// The control queue on QEMU's card: what its commands do is proven by what arrives.
#include <sys/socket.h>

#include "base/unique_fd.h"
#include "emulation/qemu/qemu.h"
#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using Mac = virtio_net::Nic::Mac;

constexpr Mac kOwn = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};
constexpr Mac kOther = {0x02, 0x11, 0x22, 0x33, 0x44, 0x66};
constexpr Mac kGroup = {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01};
constexpr Mac kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

struct Card {
  const char* name;
  std::vector<std::string> words;
  bool observed = false;
};

std::string name_of(const testing::TestParamInfo<Card>& info) { return info.param.name; }

/// A card whose wire ends in a socket of the test.
class QemuControl : public testing::TestWithParam<Card> {
 protected:
  void SetUp() override {
    emulation::DeviceSpec spec = emu_spec(GetParam().words);
    spec.uri = "qemu:virtio-net-pci";
    spec.model = "virtio-net-pci";
    spec.words.push_back({.key = "mac", .value = "02:11:22:33:44:55", .has_value = true});
    spec.wire = {.kind = emulation::WireSpec::Kind::kCable, .name = "test"};
    auto end = bench.cables.take_end("test");
    ASSERT_TRUE(end) << end.error().message();
    wire = std::move(*end);
    auto opened = emulation::qemu::open(spec, bench.cables);
    ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
    const device::Report report = bench.probe(std::move(*opened), bind(GetParam().observed), 20s);
    ASSERT_TRUE(report.ok()) << describe(report);
    nic = bench.nic();
    ASSERT_NE(nic, nullptr);
    ASSERT_TRUE(nic->set_receive_mode(virtio_net::ReceiveMode::kPromiscuous, false, soon()));
  }
  void TearDown() override {
    if (nic == nullptr) return;
    EXPECT_EQ(nic->stats().ring_violations, 0U);
    EXPECT_FALSE(nic->failed().has_value());
    bench.remove();
  }

  static Deadline soon() { return Deadline::after(10s); }

  /// Puts a frame on the wire; `vlan` below 4095 gives it a tag.
  void put(const Mac& to, std::uint32_t number, std::uint16_t vlan = 4095) {
    std::vector<std::byte> frame = frame_of({0x02, 0, 0, 0, 0, 0x01}, number, 60);
    std::memcpy(frame.data(), to.data(), to.size());
    if (vlan < 4095) {
      const std::array<std::byte, 4> tag = {std::byte{0x81}, std::byte{0x00}, static_cast<std::byte>(vlan >> 8),
                                            static_cast<std::byte>(vlan)};
      frame.insert(frame.begin() + 12, tag.begin(), tag.end());
    }
    ASSERT_EQ(::send(wire.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  }

  /// Whether a frame arrives: another one, which always does, is sent after it.
  bool arrives(const Mac& to, std::uint16_t vlan = 4095) {
    constexpr std::uint32_t kProbe = 1, kLast = 2;
    put(to, kProbe, vlan);
    put(nic->mac(), kLast);
    bool seen = false;
    const Deadline deadline = soon();
    while (!deadline.expired()) {
      virtio_net::Packet* packet = nullptr;
      if (nic->rx_burst(std::span(&packet, 1)) == 0) {
        platform::this_thread::yield();
        continue;
      }
      std::uint32_t number = 0;
      const std::size_t at = packet->length > 60 ? 18 : 14;  // behind a tag
      std::memcpy(&number, packet->data + at, sizeof(number));
      nic->free(packet);
      if (number == kLast) return seen;
      seen = true;
    }
    ADD_FAILURE() << "not even a frame to the card's own address arrived";
    return seen;
  }

  Bench bench;
  UniqueFd wire;
  virtio_net::Nic* nic = nullptr;
};
INSTANTIATE_TEST_SUITE_P(
    Cards, QemuControl,
    testing::Values(Card{"Modern", {"disable-legacy=on"}}, Card{"ModernObserved", {"disable-legacy=on"}, true},
                    Card{"Packed", {"disable-legacy=on", "packed=on"}},
                    Card{"PackedObserved", {"disable-legacy=on", "packed=on"}, true},
                    Card{"Legacy", {"disable-modern=on", "disable-legacy=off"}},
                    Card{"LegacyObserved", {"disable-modern=on", "disable-legacy=off"}, true},
                    Card{"LegacyWithoutAnyLayout", {"disable-modern=on", "disable-legacy=off", "any_layout=off"}}),
    name_of);

TEST_P(QemuControl, TheFilterLetsThroughWhatItNames) {
  EXPECT_TRUE(arrives(kOwn));
  EXPECT_TRUE(arrives(kBroadcast));
  EXPECT_FALSE(arrives(kOther));
  EXPECT_FALSE(arrives(kGroup));
  ASSERT_TRUE(nic->set_mac_filter(std::vector{kOther}, std::vector{kGroup}, soon()));
  EXPECT_TRUE(arrives(kOther));
  EXPECT_TRUE(arrives(kGroup));
  ASSERT_TRUE(nic->set_mac_filter({}, {}, soon()));
  EXPECT_FALSE(arrives(kOther));
  EXPECT_FALSE(arrives(kGroup));
}

TEST_P(QemuControl, TheModesLetThroughWhatTheySay) {
  using Mode = virtio_net::ReceiveMode;
  const auto set = [this](Mode mode, bool on) { ASSERT_TRUE(nic->set_receive_mode(mode, on, soon())); };
  set(Mode::kPromiscuous, true);
  EXPECT_TRUE(arrives(kOther));
  EXPECT_TRUE(arrives(kGroup));
  set(Mode::kPromiscuous, false);
  set(Mode::kAllMulticast, true);
  EXPECT_TRUE(arrives(kGroup));
  EXPECT_FALSE(arrives(kOther));
  set(Mode::kNoMulticast, true);
  EXPECT_FALSE(arrives(kGroup));
  set(Mode::kAllUnicast, true);
  EXPECT_TRUE(arrives(kOther));
  set(Mode::kNoBroadcast, true);
  EXPECT_FALSE(arrives(kBroadcast));
}

TEST_P(QemuControl, VlansAreFiltered) {
  EXPECT_FALSE(arrives(kOwn, 7));
  ASSERT_TRUE(nic->set_vlan(7, true, soon()));
  EXPECT_TRUE(arrives(kOwn, 7));
  EXPECT_FALSE(arrives(kOwn, 8));
  ASSERT_TRUE(nic->set_vlan(7, false, soon()));
  EXPECT_FALSE(arrives(kOwn, 7));
  EXPECT_EQ(nic->set_vlan(4095, true, soon()).error().code, Errc::kInvalid);
}

TEST_P(QemuControl, TheCardTakesANewAddress) {
  ASSERT_TRUE(nic->set_mac(kOther, soon()));
  EXPECT_EQ(nic->mac(), kOther);
  EXPECT_TRUE(arrives(kOther));
  EXPECT_FALSE(arrives(kOwn));
  EXPECT_EQ(nic->set_mac(kGroup, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(nic->mac(), kOther);
}

TEST_P(QemuControl, WhatWasSetIsSetAgainAfterASleep) {
  using Mode = virtio_net::ReceiveMode;
  ASSERT_TRUE(nic->set_mac(kOther, soon()));
  ASSERT_TRUE(nic->set_vlan(7, true, soon()));
  ASSERT_TRUE(nic->set_mac_filter({}, std::vector{kGroup}, soon()));
  ASSERT_TRUE(nic->set_receive_mode(Mode::kNoBroadcast, true, soon()));
  for (int round = 0; round < 2; ++round) {
    const auto frozen = bench.context->freeze(bench.device, soon());
    ASSERT_TRUE(frozen) << frozen.error().message();
    EXPECT_EQ(nic->set_vlan(8, true, soon()).error().code, Errc::kState) << "a frozen card takes no commands";
    const auto restored = bench.context->restore(bench.device, soon());
    ASSERT_TRUE(restored) << restored.error().message();
    EXPECT_EQ(nic->mac(), kOther);
    EXPECT_TRUE(arrives(kOther));
    EXPECT_FALSE(arrives(kOwn)) << "not promiscuous, as a card is after a reset, and not with its first address";
    EXPECT_TRUE(arrives(kOther, 7));
    EXPECT_FALSE(arrives(kOther, 8));
    EXPECT_TRUE(arrives(kGroup));
    EXPECT_FALSE(arrives(kBroadcast));
  }
}

TEST_P(QemuControl, ManyCommandsAreAnsweredOneByOne) {
  for (std::uint16_t vlan = 0; vlan < 300; vlan++) ASSERT_TRUE(nic->set_vlan(vlan, true, soon())) << vlan;
  EXPECT_TRUE(arrives(kOwn, 299));
}

TEST_P(QemuControl, WhatIsWrongInItselfIsNotSent) {
  EXPECT_EQ(nic->set_mac_filter(std::vector{kGroup}, {}, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(nic->set_mac_filter({}, std::vector{kOwn}, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(nic->set_active_pairs(2, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(nic->set_active_pairs(0, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(nic->set_receive_offloads(1, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(nic->set_receive_offloads(0, soon()).error().code, Errc::kUnavailable);
  const std::vector<Mac> many(513, kOther);
  EXPECT_EQ(nic->set_mac_filter(many, {}, soon()).error().code, Errc::kInvalid);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
