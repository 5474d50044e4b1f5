// SPDX-License-Identifier: Apache-2.0
// Traffic over a loop while rings break: each frame that was sent comes back once, or is counted as lost.
#pragma once

#include "tests/drivers/bench.h"
#include "tests/drivers/liar.h"
#include "tests/drivers/tally.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

/// Breaks the ring that is lied about `rounds` times in the middle of traffic.
inline void break_a_ring(virtio_net::Nic& nic, Lies& lies, unsigned rounds) {
  Tally tally;
  std::uint32_t sent = 0;
  const auto receive = [&] {
    std::array<virtio_net::Packet*, 32> packets;
    const std::size_t count = nic.rx_burst(packets);
    for (std::size_t i = 0; i < count; i++) tally.take(*packets[i]);
    nic.free(std::span(packets).first(count));
  };
  const auto lost = [&nic] {
    const virtio_net::NicStats stats = nic.stats();
    return stats.tx_lost + stats.rx_lost;
  };
  const auto turn = [&] {
    if (sent < tally.count() + lost() + 32) sent += send(nic, sent, 8, 60);
    receive();
    platform::this_thread::yield();
  };
  for (unsigned round = 1; round <= rounds; round++) {
    for (int i = 0; i < 200; i++) turn();
    lies.ask_for(1);
    const Deadline deadline = Deadline::after(20s);
    while (nic.stats().recoveries < round && !deadline.expired()) turn();
    ASSERT_EQ(nic.stats().recoveries, round);
    ASSERT_TRUE(lies.all_told());
    sleep_for(1100ms);  // not in a row
  }
  const Deadline enough = Deadline::after(20s);
  for (int i = 0; (i < 200 || tally.count() <= 200) && !enough.expired(); i++) turn();
  // Lost are those that the card had not given back: it may have sent them all the same, or not yet received any there.
  const Deadline deadline = Deadline::after(20s);
  while (tally.count() + lost() < sent && !deadline.expired()) receive();
  const virtio_net::NicStats stats = nic.stats();
  EXPECT_GE(tally.count() + lost(), sent);
  EXPECT_LE(tally.count(), sent);
  EXPECT_EQ(stats.tx_frames, sent);
  EXPECT_EQ(stats.rx_frames, tally.count());
  EXPECT_GT(tally.count(), 200U);
}

}  // namespace upci::inline UPCI_VARIANT::driver_tests
