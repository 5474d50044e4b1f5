// SPDX-License-Identifier: Apache-2.0
// RING_RESET on QEMU's card: one queue pair is reset and set up again in the middle of traffic, the card goes on.
#include "emulation/qemu/qemu.h"
#include "tests/drivers/queue_reset.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

struct Card {
  const char* name;
  std::vector<std::string> words;
  bool queue_reset = true;
};
std::string name_of(const testing::TestParamInfo<Card>& info) { return info.param.name; }

class QemuQueueReset : public testing::TestWithParam<Card> {};
INSTANTIATE_TEST_SUITE_P(Cards, QemuQueueReset,
                         testing::Values(Card{"Split", {"disable-legacy=on"}},
                                         Card{"SplitByLine", {"disable-legacy=on", "vectors=0"}},
                                         Card{"Packed", {"disable-legacy=on", "packed=on"}},
                                         Card{"Transitional", {"disable-legacy=off"}},
                                         Card{"Declined", {"disable-legacy=on", "queue_reset=off"}, false}),
                         name_of);

/// Queue 0 is the receive queue, 1 the transmit queue.
void break_and_mend(const Card& card, std::uint16_t queue, unsigned rounds) {
  Lies lies;
  Bench bench(liars(lies, queue));
  emulation::DeviceSpec spec = emu_spec(card.words);
  spec.uri = "qemu:virtio-net-pci";
  spec.model = "virtio-net-pci";
  auto opened = emulation::qemu::open(spec, bench.cables);
  ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
  const device::Report report = bench.probe(std::move(*opened), bind(true), 10s);
  ASSERT_TRUE(report.ok()) << describe(report);
  virtio_net::Nic& nic = *bench.nic();
  ASSERT_TRUE(nic.set_vlan(7, true, Deadline::after(10s)));
  break_a_ring(nic, lies, rounds);
  EXPECT_EQ(nic.stats().queue_resets, card.queue_reset ? rounds : 0U);
  EXPECT_EQ(nic.stats().rx_lost != 0, queue == 0);
  EXPECT_TRUE(nic.set_vlan(8, true, Deadline::after(10s))) << "the control queue goes on, too";
  EXPECT_FALSE(nic.failed().has_value());
  bench.remove();
}

TEST_P(QemuQueueReset, ABrokenRingIsMendedInTheMiddleOfTraffic) { break_and_mend(GetParam(), 1, 3); }

TEST_P(QemuQueueReset, WhatLayInABrokenReceiveRingIsCounted) { break_and_mend(GetParam(), 0, 1); }

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
