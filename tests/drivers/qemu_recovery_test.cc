// SPDX-License-Identifier: Apache-2.0
// QEMU's card finds that its driver's rings are nonsense, and asks to be reset: what was nonsense is made by this test.
#include <sys/socket.h>

#include "base/unique_fd.h"
#include "emulation/qemu/qemu.h"
#include "tests/drivers/bench.h"
#include "tests/drivers/queue_reset.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

struct Card {
  const char* name;
  std::vector<std::string> words;
  bool observed = false;
};
std::string name_of(const testing::TestParamInfo<Card>& info) { return info.param.name; }

class QemuRecovery : public testing::TestWithParam<Card> {
 protected:
  void SetUp() override {
    emulation::DeviceSpec spec = emu_spec(GetParam().words);
    spec.uri = "qemu:virtio-net-pci";
    spec.model = "virtio-net-pci";
    auto opened = emulation::qemu::open(spec, bench.cables);
    ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
    const device::Report report = bench.probe(std::move(*opened), bind(GetParam().observed), 10s);
    ASSERT_TRUE(report.ok()) << describe(report);
    nic = bench.nic();
    ASSERT_NE(nic, nullptr);
  }
  void TearDown() override {
    if (nic == nullptr) return;
    EXPECT_FALSE(nic->failed().has_value());
    bench.remove();
  }

  /// Where the driver keeps the available index of the receive queue (split rings). The device says where the ring is, and
  /// a packet, in the same memory, how addresses of the device become ours.
  std::uint16_t* available_index() {
    constexpr unsigned kBar = 4;  // QEMU's, with the common configuration at its begin
    constexpr std::uint64_t kSelect = 0x16, kDriverLow = 0x28, kDriverHigh = 0x2c;
    auto bar = bench.device->bar(kBar);
    EXPECT_TRUE(bar);
    if (!bar) return nullptr;
    bar->store<std::uint16_t>(kSelect, virtio::spec::net::kReceiveQueue);
    const std::uint64_t ring =
        bar->load<std::uint32_t>(kDriverLow) | std::uint64_t{bar->load<std::uint32_t>(kDriverHigh)} << 32;
    virtio_net::Packet* packet = nic->alloc();
    std::byte* const at =
        packet->data + (static_cast<std::int64_t>(ring) - static_cast<std::int64_t>(packet->iova)) + 2;
    nic->free(packet);
    return reinterpret_cast<std::uint16_t*>(at);
  }

  Bench bench;
  virtio_net::Nic* nic = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Cards, QemuRecovery,
                         testing::Values(Card{"Split", {"disable-legacy=on"}},
                                         Card{"SplitObserved", {"disable-legacy=on"}, true},
                                         Card{"SplitWithoutEventIdx", {"disable-legacy=on", "event_idx=off"}},
                                         Card{"Line", {"disable-legacy=on", "vectors=0"}}),
                         name_of);

TEST_P(QemuRecovery, ABogusAvailableIndexInTheMiddleOfTrafficIsRecoveredFrom) {
  ASSERT_TRUE(nic->set_vlan(7, true, Deadline::after(10s)));
  // No frame comes twice, and none is lost uncounted, but for the one with which QEMU finds out: it had left the driver.
  const auto harm = [&](const auto& send_one, const auto&) {
    const std::uint64_t before = nic->stats().recoveries;
    std::uint16_t* const index = available_index();
    ASSERT_NE(index, nullptr);
    // More than the queue has: QEMU finds that when the next frame comes, and marks the device as broken.
    std::atomic_ref<std::uint16_t>(*index).fetch_add(5000);
    const Deadline deadline = Deadline::after(20s);
    while (nic->stats().recoveries == before && !deadline.expired()) {
      send_one();
      sleep_for(5ms);
    }
  };
  survive(*nic, 3, harm, 1);
  loop_polled(*nic, {.frames = 2000, .length = 60, .window = 32});
  EXPECT_TRUE(nic->set_vlan(8, true, Deadline::after(10s))) << "the control queue goes on, too";
}

TEST_P(QemuRecovery, ASleepInTheMiddleOfTrafficCostsNoMoreThanWhatWasUnderWay) {
  std::uint32_t sent = 0;
  for (unsigned round = 1; round <= 3; round++) {
    loop_polled(*nic, {.frames = 500, .length = 60, .window = 32});
    sent += 500 + send(*nic, 0, 16, 60);
    const auto frozen = bench.context->freeze(bench.device, Deadline::after(10s));
    ASSERT_TRUE(frozen) << frozen.error().message();
    EXPECT_EQ(send(*nic, 0, 16, 60), 0U);
    const auto restored = bench.context->restore(bench.device, Deadline::after(10s));
    ASSERT_TRUE(restored) << restored.error().message();
    // What had arrived before it fell asleep, and what the wire still holds.
    std::array<virtio_net::Packet*, 64> left;
    const Deadline quiet = Deadline::after(200ms);
    while (!quiet.expired()) nic->free(std::span(left).first(nic->rx_burst(left)));
  }
  loop_polled(*nic, {.frames = 2000, .length = 60, .window = 32});
  EXPECT_EQ(nic->stats().tx_frames, sent + 2000);
  EXPECT_LE(nic->stats().tx_lost, 3U * 16);
  EXPECT_EQ(nic->stats().recoveries, 0U);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
