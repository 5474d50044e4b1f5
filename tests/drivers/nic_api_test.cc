// SPDX-License-Identifier: Apache-2.0
// What a Nic promises beside moving frames.
#include <set>

#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

#if defined(UPCI_SIM)
constexpr unsigned kSeeds = 50;
#else
constexpr unsigned kSeeds = 1;
#endif

/// Both access policies for each test.
class NicApi : public testing::TestWithParam<bool> {
 protected:
  template <class F>
  void with_nic(const std::vector<std::string>& words, F body) {
    run(kSeeds, [&] {
      Bench bench;
      const device::Report report = bench.probe_emu(emu_spec(words), bind(GetParam()));
      ASSERT_TRUE(report.ok()) << describe(report);
      virtio_net::Nic* nic = bench.nic();
      ASSERT_NE(nic, nullptr);
      body(*nic, bench);
      EXPECT_EQ(nic->stats().ring_violations, 0U);
      bench.remove();
    });
  }
  /// Waits until `done`, at most 10 s.
  template <class F>
  static bool eventually(F done) {
    const Deadline deadline = Deadline::after(10s);
    while (!done()) {
      if (deadline.expired()) return false;
      sleep_for(1ms);
    }
    return true;
  }
};
INSTANTIATE_TEST_SUITE_P(Policies, NicApi, testing::Bool(), policy_name);

TEST_P(NicApi, MacAndMtuAreTheCards) {
  for (const std::string interface : {"modern", "legacy"}) {
    with_nic({interface, "mac=02:11:22:33:44:55", "mtu=2000"}, [](virtio_net::Nic& nic, Bench&) {
      EXPECT_EQ(nic.mac(), (virtio_net::Nic::Mac{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}));
      EXPECT_EQ(nic.mtu(), 2000);
      loop_polled(nic, {.frames = 10, .length = 2014, .window = 4});
    });
  }
}

TEST_P(NicApi, TheLinkIsReadAtTheProbeAndFollowsTheConfigurationInterrupt) {
  for (const std::string interface : {"modern", "legacy"}) {
    with_nic({interface, "link=down"}, [](virtio_net::Nic& nic, Bench& bench) {
      EXPECT_FALSE(nic.link_up());
      emulation::emu::set_link(*bench.backend, true);
      EXPECT_TRUE(eventually([&] { return nic.link_up(); }));
      emulation::emu::set_link(*bench.backend, false);
      EXPECT_TRUE(eventually([&] { return !nic.link_up(); }));
    });
  }
}

// One interrupt for everything: a line (INTx), where the ISR status says what it was for, or a single MSI-X vector.
TEST_P(NicApi, OneInterruptServesTheQueuesAndTheConfiguration) {
  for (const char* vectors : {"vectors=0", "vectors=1"}) {
    for (const char* interface : {"modern", "legacy"}) {
      with_nic({interface, vectors}, [](virtio_net::Nic& nic, Bench& bench) {
        emulation::emu::set_link(*bench.backend, false);
        EXPECT_TRUE(eventually([&] { return !nic.link_up(); }));
        emulation::emu::set_link(*bench.backend, true);
        EXPECT_TRUE(eventually([&] { return nic.link_up(); }));
        loop_by_interrupt(nic, {.frames = 300});
        EXPECT_EQ(nic.stats().cpus.size(), 1U);
        EXPECT_GT(nic.stats().interrupts, 2U);
      });
    }
  }
}

TEST_P(NicApi, PolledQueuesNeedNoInterruptAndTheLinkCanBeReadOnDemand) {
  with_nic({"modern", "vectors=0"}, [](virtio_net::Nic& nic, Bench& bench) {
    emulation::emu::set_link(*bench.backend, false);
    EXPECT_FALSE(nic.update_link(Deadline::after(1s)).value());
    EXPECT_FALSE(nic.link_up());
    emulation::emu::set_link(*bench.backend, true);
    EXPECT_TRUE(nic.update_link(Deadline::after(1s)).value());
    loop_polled(nic, {.frames = 100});
  });
}

TEST_P(NicApi, AReceiverIsSetOnceAndMustBeOne) {
  with_nic({"modern"}, [](virtio_net::Nic& nic, Bench&) {
    EXPECT_EQ(nic.wait_tx_room(Deadline::after(1s)).error().code, Errc::kState);
    EXPECT_EQ(nic.set_receiver({}).error().code, Errc::kInvalid);
    const auto receiver = [&nic](std::span<virtio_net::Packet* const> packets) { nic.free(packets); };
    EXPECT_TRUE(nic.set_receiver(receiver));
    EXPECT_EQ(nic.set_receiver(receiver).error().code, Errc::kState);
    std::array<virtio_net::Packet*, 4> packets;
    EXPECT_EQ(nic.rx_burst(packets), 0U);
  });
}

TEST_P(NicApi, ALengthThatNoFrameHasIsDroppedAndCounted) {
  with_nic({"modern"}, [](virtio_net::Nic& nic, Bench& bench) {
    virtio_net::Packet* packets[3] = {nic.alloc(), nic.alloc(), nic.alloc()};
    packets[0]->length = 0;
    packets[1]->length = 13;
    packets[2]->length = packets[2]->capacity + 1;
    EXPECT_EQ(nic.tx_burst(packets), 3U);
    EXPECT_EQ(nic.stats().tx_invalid, 3U);
    EXPECT_EQ(nic.stats().tx_frames, 0U);
    EXPECT_EQ(emulation::emu::frame_counts(*bench.backend).sent, 0U);
    loop_polled(nic, {.frames = 50});
  });
}

TEST_P(NicApi, ThePoolGivesWhatItHasAndNoMore) {
  with_nic({"modern"}, [](virtio_net::Nic& nic, Bench&) {
    std::vector<virtio_net::Packet*> all(10'000);
    const std::size_t count = nic.alloc(all);
    EXPECT_GE(count, 1024U);
    EXPECT_LT(count, all.size());
    EXPECT_EQ(nic.alloc(), nullptr);
    std::sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));
    EXPECT_EQ(std::adjacent_find(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count)),
              all.begin() + static_cast<std::ptrdiff_t>(count));
    nic.free(std::span(all).first(count));
    EXPECT_NE(nic.alloc(), nullptr);
  });
}

// What was sent is sent again, and what was received into is received into again: headers and descriptors stay as they are.
TEST_P(NicApi, PacketsComeBackForWhatTheyWereUsedFor) {
  with_nic({"modern"}, [](virtio_net::Nic& nic, Bench&) {
    std::set<virtio_net::Packet*> sent;
    std::set<virtio_net::Packet*> received;
    for (int i = 0; i < 100; i++) {
      virtio_net::Packet* packet = nic.alloc();
      ASSERT_NE(packet, nullptr);
      std::memset(packet->data, 0xff, 60);
      packet->length = 60;
      sent.insert(packet);
      ASSERT_EQ(nic.tx_burst(std::span(&packet, 1)), 1U);
      virtio_net::Packet* back = nullptr;
      const Deadline deadline = Deadline::after(10s);
      while (nic.rx_burst(std::span(&back, 1)) == 0 && !deadline.expired()) sleep_for(10us);  // the card's turn
      ASSERT_NE(back, nullptr) << "frame " << i << " has not come back";
      received.insert(back);
      nic.free(std::span(&back, 1));
    }
    for (virtio_net::Packet* packet : sent) EXPECT_FALSE(received.contains(packet));
  });
}

/// A receiver that keeps what it gets, a pool that is empty, and a receive ring that has run dry.
struct DryRing {
  explicit DryRing(virtio_net::Nic& card) : nic(card), hoard(8192) {
    hoard.resize(nic.alloc(hoard));
    EXPECT_TRUE(nic.set_receiver([this](std::span<virtio_net::Packet* const> packets) {
      received.fetch_add(static_cast<std::uint32_t>(packets.size()));
    }));
    // As many frames as the receive ring has slots, in one go: none of the slots can be filled again.
    for (std::uint16_t i = 0; i < nic.rx_slots(); ++i) write_frame(*hoard[i], nic.mac(), i, 60);
    EXPECT_EQ(nic.tx_burst(std::span(hoard).first(nic.rx_slots())), nic.rx_slots());
    hoard.erase(hoard.begin(), hoard.begin() + nic.rx_slots());
  }
  bool is_dry() const { return received.load() == nic.rx_slots() && nic.stats().rx_no_buffer != 0; }

  virtio_net::Nic& nic;
  std::vector<virtio_net::Packet*> hoard;
  platform::Atomic<std::uint32_t> received{0};
};

TEST_P(NicApi, AReceiveRingThatRanDryIsFilledAgainByWhatWasSent) {
  with_nic({"modern", "queue_size=8"}, [](virtio_net::Nic& nic, Bench&) {
    DryRing dry(nic);
    ASSERT_TRUE(eventually([&] { return dry.is_dry(); }));
    write_frame(*dry.hoard.back(), nic.mac(), 8, 60);
    EXPECT_EQ(nic.tx_burst(std::span(dry.hoard).last(1)), 1U);
    EXPECT_TRUE(eventually([&] { return dry.received.load() == 9; }));
    dry.hoard.pop_back();
    nic.free(dry.hoard);
  });
}

/// Only an observed ring shows that it is being filled.
class ObservedNicApi : public NicApi {};
INSTANTIATE_TEST_SUITE_P(Policies, ObservedNicApi, testing::Values(true), policy_name);

TEST_P(ObservedNicApi, AReceiveRingThatRanDryIsFilledAgainByWhatIsFreed) {
  with_nic({"modern", "queue_size=8"}, [](virtio_net::Nic& nic, Bench&) {
    DryRing dry(nic);
    ASSERT_TRUE(eventually([&] { return dry.is_dry(); }));
    const std::uint64_t before = nic.stats().ring_accesses;
    nic.free(dry.hoard);
    // A descriptor and an entry for each of the eight slots.
    EXPECT_TRUE(eventually([&] { return nic.stats().ring_accesses >= before + 16; }));
  });
}

TEST_P(NicApi, WaitingForRoomEndsAtTheDeadlineOrWithTheTransmitInterrupt) {
  with_nic({"modern", "queue_size=8"}, [](virtio_net::Nic& nic, Bench&) {
    // The card sends a frame back only where there is room to receive it; the receiver sleeps, so that both rings fill up.
    Completion go;
    platform::Atomic<std::uint32_t> received{0};
    ASSERT_TRUE(nic.set_receiver([&](std::span<virtio_net::Packet* const> packets) {
      go.wait();
      received.fetch_add(static_cast<std::uint32_t>(packets.size()));
      nic.free(packets);
    }));
    std::uint32_t sent = 0;
    const Deadline full = Deadline::after(10s);
    for (;;) {
      const std::uint32_t taken = send(nic, sent, 1, 60);
      sent += taken;
      if (taken != 0) continue;
      const Deadline deadline = Deadline::after(50ms);
      const auto waited = nic.wait_tx_room(deadline);
      if (!waited) {
        EXPECT_EQ(waited.error().code, Errc::kTimeout);
        EXPECT_TRUE(deadline.expired());
        break;
      }
      ASSERT_FALSE(full.expired());
    }
    const std::uint64_t interrupts = nic.stats().interrupts;
    go.complete();
    EXPECT_TRUE(nic.wait_tx_room(Deadline::after(10s)));
    // It may come after the room: whoever looks at the ring needs no interrupt.
    EXPECT_TRUE(eventually([&] { return nic.stats().interrupts > interrupts; }));
    EXPECT_TRUE(eventually([&] { return received.load() == sent; }));
  });
}

TEST_P(NicApi, TheBottomHalfRunsOnTheReceiveVectorsCpuWhichIsOneOfTheDevicesNode) {
  run(1, [] {
    Bench bench;
    emulation::DeviceSpec spec = emu_spec({"modern"});
    spec.node = 1;
    const device::Report report = bench.probe_emu(spec, bind(GetParam()));
    ASSERT_TRUE(report.ok()) << describe(report);
    virtio_net::Nic* nic = bench.nic();
    ASSERT_NE(nic, nullptr);
    platform::Atomic<int> ran_on{-1};
    ASSERT_TRUE(nic->set_receiver([&](std::span<virtio_net::Packet* const> packets) {
      ran_on.store(bench.context->engine().current_worker_cpu());
      nic->free(packets);
    }));
    send(*nic, 0, 1, 60);
    EXPECT_TRUE(eventually([&] { return ran_on.load() >= 0; }));
    const std::vector<int> cpus = nic->stats().cpus;
    ASSERT_EQ(cpus.size(), 3U);
    EXPECT_EQ(ran_on.load(), cpus[1]);
    EXPECT_EQ(bench.context->engine().topology().find(ran_on.load())->node, 1);
    bench.remove();
  });
}

TEST_P(NicApi, ARemovalInTheMiddleOfTrafficLeavesNothingRunning) {
  for (const std::string interface : {"modern", "legacy"}) {
    run(kSeeds, [&] {
      platform::Atomic<std::uint32_t> received{0};
      Bench bench;
      const device::Report report = bench.probe_emu(emu_spec({interface}), bind(GetParam()));
      ASSERT_TRUE(report.ok()) << describe(report);
      virtio_net::Nic* nic = bench.nic();
      ASSERT_NE(nic, nullptr);
      ASSERT_TRUE(nic->set_receiver([&](std::span<virtio_net::Packet* const> packets) {
        received.fetch_add(static_cast<std::uint32_t>(packets.size()));
        nic->free(packets);
      }));
      for (int burst = 0; burst < 4; ++burst) send(*nic, 0, 32, 60);
      bench.remove();
      const std::uint32_t after = received.load();
      sleep_for(5ms);
      EXPECT_EQ(received.load(), after);
      EXPECT_EQ(bench.context->bound(*bench.device), nullptr);
    });
  }
}

TEST_P(NicApi, ARemovedDeviceCanBeProbedAgain) {
  run(1, [] {
    Bench bench;
    auto opened = emulation::emu::open(emu_spec({"transitional"}), bench.cables);
    ASSERT_TRUE(opened);
    for (int round = 0; round < 3; ++round) {
      const device::Report report =
          round == 0 ? bench.probe(*opened, bind(GetParam())) : bench.context->probe(bench.device, 2s);
      ASSERT_TRUE(report.ok()) << describe(report);
      loop_polled(*bench.nic(), {.frames = 50});
      bench.remove();
    }
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
