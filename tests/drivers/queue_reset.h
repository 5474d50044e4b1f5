// SPDX-License-Identifier: Apache-2.0
// Traffic over a loop while rings break: each frame that was sent comes back once, or is counted as lost.
#pragma once

#include "tests/drivers/bench.h"
#include "tests/drivers/liar.h"
#include "tests/drivers/tally.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

/// `harm` is done `rounds` times in the middle of traffic, and each time the card is brought back. It is called with what sends one
/// more frame, and with what takes part in the traffic for a turn.
/// The card itself may drop so many frames each time, which nobody else can know of.
inline void survive(
    virtio_net::Nic& nic, unsigned rounds,
    const std::function<void(const std::function<void()>& send_one, const std::function<void()>& turn)>& harm,
    unsigned dropped_by_card = 0) {
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
    harm([&] { sent += send(nic, sent, 1, 60); }, turn);
    ASSERT_EQ(nic.stats().recoveries, round);
    sleep_for(1100ms);  // not in a row
  }
  const Deadline enough = Deadline::after(20s);
  for (int i = 0; (i < 200 || tally.count() <= 200) && !enough.expired(); i++) turn();
  // Lost are those that the card had not given back: it may have sent them all the same, or not yet received any there.
  const Deadline deadline = Deadline::after(20s);
  const std::uint64_t drops = std::uint64_t{rounds} * dropped_by_card;
  while (tally.count() + lost() + drops < sent && !deadline.expired()) receive();
  for (int i = 0; i < 200; i++) receive();
  const virtio_net::NicStats stats = nic.stats();
  EXPECT_GE(tally.count() + lost() + drops, sent);
  EXPECT_LE(tally.count(), sent);
  EXPECT_EQ(stats.tx_frames, sent);
  EXPECT_EQ(stats.rx_frames, tally.count());
  EXPECT_GT(tally.count(), 200U);
}

/// Breaks the ring that is lied about `rounds` times.
inline void break_a_ring(virtio_net::Nic& nic, Lies& lies, unsigned rounds) {
  survive(nic, rounds, [&](const auto&, const auto& turn) {
    const std::uint64_t before = nic.stats().recoveries;
    lies.ask_for(1);
    const Deadline deadline = Deadline::after(20s);
    while (nic.stats().recoveries == before && !deadline.expired()) {
      turn();
      sleep_for(100us);  // simulated time passes only while somebody sleeps
    }
    ASSERT_TRUE(lies.all_told());
  });
}

}  // namespace upci::inline UPCI_VARIANT::driver_tests
