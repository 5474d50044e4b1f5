// SPDX-License-Identifier: Apache-2.0
// A card that asks to be reset in the middle of traffic: its data path goes on, no frame comes twice, none is lost uncounted.
#include "tests/drivers/bench.h"
#include "tests/drivers/tally.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

struct RecoveryCase {
  std::string name;
  std::vector<std::string> words;
  bool observed;
};

class Recovery : public testing::TestWithParam<RecoveryCase> {
 protected:
  template <class F>
  void with_nic(F body) {
    run(20, [&] {
      Bench bench;
      ASSERT_EQ(bench.probe_emu(emu_spec(GetParam().words), bind(GetParam().observed), 10s).result, "ok");
      virtio_net::Nic* nic = bench.nic();
      ASSERT_NE(nic, nullptr);
      body(*nic, bench);
      EXPECT_FALSE(nic->failed().has_value());
      EXPECT_EQ(nic->stats().ring_violations, 0U);
      bench.remove();
    });
  }

  template <class F>
  static bool eventually(F done) {
    const Deadline deadline = Deadline::after(20s);
    while (!done()) {
      if (deadline.expired()) return false;
      sleep_for(1ms);
    }
    return true;
  }
};
INSTANTIATE_TEST_SUITE_P(Cards, Recovery,
                         testing::Values(RecoveryCase{"SplitPlain", {"modern"}, false},
                                         RecoveryCase{"SplitObserved", {"modern"}, true},
                                         RecoveryCase{"PackedObserved", {"modern", "packed=on"}, true}),
                         [](const testing::TestParamInfo<RecoveryCase>& tested) { return tested.param.name; });

TEST_P(Recovery, PolledTrafficGoesOnAndEachFrameIsAccountedFor) {
  with_nic([](virtio_net::Nic& nic, Bench& bench) {
    Tally tally;
    std::uint32_t sent = 0;
    const auto turn = [&] {
      sent += send(nic, sent, 8, 60);
      std::array<virtio_net::Packet*, 32> packets;
      const std::size_t count = nic.rx_burst(packets);
      for (std::size_t i = 0; i < count; i++) tally.take(*packets[i]);
      nic.free(std::span(packets).first(count));
    };
    for (unsigned reset = 1; reset <= 3; reset++) {
      for (int i = 0; i < 20; i++) turn();
      emulation::emu::request_reset(*bench.backend);
      EXPECT_TRUE(eventually([&] {
        turn();
        return nic.stats().recoveries == reset;
      }));
      sleep_for(2s);  // not in a row
    }
    for (int i = 0; i < 20; i++) turn();
    EXPECT_TRUE(eventually([&] {
      turn();
      const virtio_net::NicStats stats = nic.stats();
      return tally.count() + stats.tx_lost >= sent - 64;
    }));
    const std::uint32_t before = sent;
    EXPECT_TRUE(eventually([&] {
      std::array<virtio_net::Packet*, 32> packets;
      const std::size_t count = nic.rx_burst(packets);
      for (std::size_t i = 0; i < count; i++) tally.take(*packets[i]);
      nic.free(std::span(packets).first(count));
      return tally.count() + nic.stats().tx_lost >= before;
    })) << tally.count()
        << " came and " << nic.stats().tx_lost << " were lost, of " << before;
    EXPECT_LE(tally.count(), before);
    EXPECT_EQ(nic.stats().tx_frames, before);
  });
}

TEST_P(Recovery, InterruptTrafficGoesOn) {
  with_nic([](virtio_net::Nic& nic, Bench& bench) {
    Tally tally;
    ASSERT_TRUE(nic.set_receiver([&](std::span<virtio_net::Packet* const> packets) {
      for (virtio_net::Packet* packet : packets) tally.take(*packet);
      nic.free(packets);
    }));
    std::uint32_t sent = send(nic, 0, 8, 60);
    EXPECT_TRUE(eventually([&] { return tally.count() == 8; }));
    emulation::emu::request_reset(*bench.backend);
    EXPECT_TRUE(eventually([&] { return nic.stats().recoveries == 1; }));
    EXPECT_TRUE(nic.wait_tx_room(Deadline::after(10s)));
    sent += send(nic, sent, 8, 60);
    EXPECT_EQ(sent, 16U);
    EXPECT_TRUE(eventually([&] { return tally.count() == 16; }));
  });
}

TEST_P(Recovery, WhoWaitsForRoomIsNotForgotten) {
  with_nic([](virtio_net::Nic& nic, Bench& bench) {
    ASSERT_TRUE(nic.set_receiver([&](std::span<virtio_net::Packet* const> packets) { nic.free(packets); }));
    emulation::emu::request_reset(*bench.backend);
    const Deadline deadline = Deadline::after(20s);
    std::uint32_t sent = 0;
    while (nic.stats().recoveries == 0 && !deadline.expired()) {
      sent += send(nic, sent, 32, 60);
      const auto room = nic.wait_tx_room(Deadline::after(1s));
      EXPECT_TRUE(room || room.error().code == Errc::kTimeout);
    }
    EXPECT_EQ(nic.stats().recoveries, 1U);
    EXPECT_TRUE(nic.wait_tx_room(Deadline::after(10s)));
  });
}

TEST_P(Recovery, ARemovalInTheMiddleOfItLeavesNothingBehind) {
  run(50, [&] {
    Bench bench;
    ASSERT_EQ(bench.probe_emu(emu_spec(GetParam().words), bind(GetParam().observed), 10s).result, "ok");
    send(*bench.nic(), 0, 8, 60);
    emulation::emu::request_reset(*bench.backend);
    bench.remove();
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
