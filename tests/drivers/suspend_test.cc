// SPDX-License-Identifier: Apache-2.0
// A card that is put to sleep in the middle of traffic and woken up: no frame comes twice, none is lost uncounted.
#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

/// Frames by number: none comes twice.
class Tally {
 public:
  void take(std::span<virtio_net::Packet* const> packets) {
    const std::lock_guard lock(mutex_);
    for (const virtio_net::Packet* packet : packets) {
      std::uint32_t number = 0;
      std::memcpy(&number, packet->data + 14, sizeof(number));
      if (number >= seen_.size()) seen_.resize(number + 1);
      EXPECT_EQ(seen_[number]++, 0) << "frame " << number << " came again";
      ++count_;
    }
  }
  std::uint64_t count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  platform::Mutex mutex_;
  std::vector<int> seen_;
  std::uint64_t count_ = 0;
};

template <class F>
bool eventually(F done) {
  const Deadline deadline = Deadline::after(20s);
  while (!done()) {
    if (deadline.expired()) return false;
    sleep_for(1ms);
  }
  return true;
}

class NicSuspend : public testing::TestWithParam<bool> {
 protected:
  template <class F>
  void with_nic(const std::vector<std::string>& words, F body) {
    run(20, [&] {
      Bench bench;
      ASSERT_EQ(bench.probe_emu(emu_spec(words), bind(GetParam()), 10s).result, "ok");
      virtio_net::Nic* nic = bench.nic();
      ASSERT_NE(nic, nullptr);
      body(*nic, bench);
      EXPECT_FALSE(nic->failed().has_value());
      EXPECT_EQ(nic->stats().ring_violations, 0U);
      EXPECT_EQ(nic->stats().recoveries, 0U);
      bench.remove();
    });
  }
  static void freeze(Bench& bench) {
    const auto done = bench.context->freeze(bench.device, Deadline::after(10s));
    ASSERT_TRUE(done) << done.error().message();
  }
  static void restore(Bench& bench) {
    const auto done = bench.context->restore(bench.device, Deadline::after(10s));
    ASSERT_TRUE(done) << done.error().message();
  }
};
INSTANTIATE_TEST_SUITE_P(Policies, NicSuspend, testing::Bool(), policy_name);

TEST_P(NicSuspend, PolledTrafficGoesOnAndEachFrameIsAccountedFor) {
  for (const char* interface : {"modern", "legacy"}) {
    with_nic({interface}, [](virtio_net::Nic& nic, Bench& bench) {
      Tally tally;
      std::uint32_t sent = 0;
      const auto receive = [&] {
        std::array<virtio_net::Packet*, 32> packets;
        const std::size_t count = nic.rx_burst(packets);
        tally.take(std::span(packets).first(count));
        nic.free(std::span(packets).first(count));
        return count;
      };
      for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 20; ++i) {
          sent += send(nic, sent, 8, 60);
          receive();
        }
        sent += send(nic, sent, 16, 60);  // these are under way
        freeze(bench);
        EXPECT_EQ(send(nic, sent, 8, 60), 0U) << "a frozen card sends nothing";
        EXPECT_EQ(receive(), 0U);
        restore(bench);
      }
      sent += send(nic, sent, 8, 60);
      // Looped frames are lost on the way out (counted by us) or where the card has no buffer (counted by the model).
      EXPECT_TRUE(eventually([&] {
        receive();
        const auto counts = emulation::emu::frame_counts(*bench.backend);
        return counts.sent + nic.stats().tx_lost >= sent && tally.count() == counts.received;
      })) << sent
          << " sent, " << tally.count() << " came, " << nic.stats().tx_lost << " lost, the card says sent "
          << emulation::emu::frame_counts(*bench.backend).sent << " received "
          << emulation::emu::frame_counts(*bench.backend).received;
      EXPECT_EQ(nic.stats().tx_frames, sent);
      EXPECT_GT(tally.count(), 0U);
    });
  }
}

TEST_P(NicSuspend, InterruptTrafficGoesOnAndNoCallbackRunsMeanwhile) {
  with_nic({"modern"}, [](virtio_net::Nic& nic, Bench& bench) {
    Tally tally;
    platform::Atomic<bool> asleep{false};
    ASSERT_TRUE(nic.set_receiver([&](std::span<virtio_net::Packet* const> packets) {
      EXPECT_FALSE(asleep.load());
      tally.take(packets);
      nic.free(packets);
    }));
    std::uint32_t sent = send(nic, 0, 8, 60);
    EXPECT_TRUE(eventually([&] { return tally.count() == 8; }));
    for (std::uint64_t round = 1; round <= 3; ++round) {
      freeze(bench);
      asleep.store(true);
      emulation::emu::set_link(*bench.backend, round % 2 == 0);
      emulation::emu::set_link(*bench.backend, true);
      EXPECT_EQ(send(nic, sent, 8, 60), 0U);
      EXPECT_FALSE(nic.wait_tx_room(Deadline::after(5ms)));
      asleep.store(false);
      restore(bench);
      EXPECT_TRUE(nic.wait_tx_room(Deadline::after(10s)));
      sent += send(nic, sent, 8, 60);
      EXPECT_TRUE(eventually([&] { return tally.count() == 8 * (round + 1); }));
    }
    EXPECT_EQ(sent, 32U);
  });
}

TEST_P(NicSuspend, UnderLoadOfOtherThreadsNothingHangs) {
  with_nic({"modern"}, [](virtio_net::Nic& nic, Bench& bench) {
    platform::Atomic<bool> stop{false};
    Tally tally;
    ASSERT_TRUE(nic.set_receiver([&](std::span<virtio_net::Packet* const> packets) {
      tally.take(packets);
      nic.free(packets);
    }));
    std::uint32_t sent = 0;
    auto sender = platform::Thread::create({.name = "sender"}, [&] {
      while (!stop.load()) {
        sent += send(nic, sent, 8, 60);
        static_cast<void>(nic.wait_tx_room(Deadline::after(1ms)));
        sleep_for(50us);
      }
    });
    ASSERT_TRUE(sender);
    for (int round = 0; round < 5; ++round) {
      const std::uint64_t before = tally.count();
      EXPECT_TRUE(eventually([&] { return tally.count() > before; })) << "round " << round;
      freeze(bench);
      restore(bench);
    }
    stop.store(true);
    sender->join();
    EXPECT_TRUE(eventually([&] {
      const auto counts = emulation::emu::frame_counts(*bench.backend);
      return counts.sent + nic.stats().tx_lost >= sent && tally.count() == counts.received;
    })) << sent
        << " " << tally.count() << " " << nic.stats().tx_lost;
  });
}

TEST_P(NicSuspend, ALinkThatWentDownMeanwhileIsSeenAfterwards) {
  with_nic({"modern"}, [](virtio_net::Nic& nic, Bench& bench) {
    EXPECT_TRUE(nic.link_up());
    freeze(bench);
    emulation::emu::set_link(*bench.backend, false);
    restore(bench);
    EXPECT_TRUE(eventually([&] { return !nic.link_up(); }));
  });
}

TEST_P(NicSuspend, ARemovalOfAFrozenCardLeavesNothingBehind) {
  run(20, [&] {
    Bench bench;
    ASSERT_EQ(bench.probe_emu(emu_spec({"modern"}), bind(GetParam()), 10s).result, "ok");
    send(*bench.nic(), 0, 8, 60);
    freeze(bench);
    bench.remove();
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
