// SPDX-License-Identifier: Apache-2.0
// Each fault of emu: ends as its description says; those that end in a verdict, with its step and register. The drivers
// know nothing of the faults.
#include <map>

#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

struct Place {
  std::string_view step;
  std::string_view reg;
};

/// Where a fault shows, by the modern interface.
const std::map<std::string_view, Place>& modern_places() {
  static const std::map<std::string_view, Place> places = {
      {"status-slow", {"reset", "device_status"}},
      {"status-stuck", {"reset", "device_status"}},
      {"gone", {"features_ok", "device_status"}},
      {"needs-reset", {"features_ok", "device_status"}},
      {"features-rejected", {"features_ok", "device_status"}},
      {"access-stalled", {"reset", "device_status"}},
      {"memory-decode-off", {"reset", "device_status"}},
      {"generation-unstable", {"config", "config_generation"}},
      {"vector-rejected", {"queues", "config_msix_vector"}},
      {"version-missing", {"features", "device_feature"}},
      {"cap-out-of-range", {"probe", "capabilities"}},
      {"cap-short", {"probe", "capabilities"}},
      {"cap-missing", {"probe", "capabilities"}},
      {"cap-bar-invalid", {"probe", "capabilities"}},
      {"bar-size-zero", {"probe", "capabilities"}},
      {"notify-out-of-range", {"queues", "queue_notify_off"}},
      {"queue-size-zero", {"queues", "queue_size"}},
      {"queue-size-huge", {"queues", "queue_size"}},
      {"queue-size-odd", {"queues", "queue_size"}},
  };
  return places;
}

/// The same by the legacy interface, where it is another.
const std::map<std::string_view, Place>& legacy_places() {
  static const std::map<std::string_view, Place> places = {
      {"status-slow", {"reset", "device_status"}},
      {"status-stuck", {"reset", "device_status"}},
      {"gone", {"config", "device_config"}},
      {"needs-reset", {"driver_ok", "device_status"}},
      {"access-stalled", {"reset", "device_status"}},
      {"memory-decode-off", {"reset", "device_status"}},
      {"vector-rejected", {"queues", "config_msix_vector"}},
      {"queue-size-zero", {"queues", "queue_size"}},
      {"queue-size-huge", {"queues", "queue_size"}},
      {"queue-size-odd", {"queues", "queue_size"}},
  };
  return places;
}

struct FaultCase {
  emulation::emu::FaultDescription fault;
  bool legacy = false;
  bool observed = false;
};

std::string name_of(const testing::TestParamInfo<FaultCase>& info) {
  std::string name(info.param.fault.name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name + (info.param.legacy ? "_legacy" : "_modern") + (info.param.observed ? "_observed" : "_plain");
}

std::vector<FaultCase> all_faults() {
  std::vector<FaultCase> all;
  for (const emulation::emu::FaultDescription& fault : emulation::emu::faults()) {
    for (const bool legacy : {false, true}) {
      if (!emulation::emu::check(emu_spec({legacy ? "legacy" : "modern"}, std::string(fault.name)))) continue;
      for (const bool observed : {false, true}) all.push_back({fault, legacy, observed});
    }
  }
  return all;
}

class EmuFault : public testing::TestWithParam<FaultCase> {
 protected:
  /// A deadline that is to be missed is short; one that is not leaves time for a busy machine.
  static platform::Nanoseconds timeout() {
    const std::string_view expected = GetParam().fault.expected;
    return expected == "stuck" || expected == "slow" || expected == "stalled" ? 300ms : 10s;
  }

  emulation::DeviceSpec spec() const {
    std::vector<std::string> words = {GetParam().legacy ? "legacy" : "modern"};
    // Late, but in time: after half of the deadline.
    if (GetParam().fault.name == "status-slow") words.push_back("fault_ms=200");
    return emu_spec(words, std::string(GetParam().fault.name));
  }
};
INSTANTIATE_TEST_SUITE_P(Faults, EmuFault, testing::ValuesIn(all_faults()), name_of);

TEST_P(EmuFault, TheProbeEndsAsItsDescriptionSays) {
  run(1, [this] {
    const FaultCase& wanted = GetParam();
    Bench bench;
    auto opened = emulation::emu::open(spec(), bench.cables);
    ASSERT_TRUE(opened) << opened.error().message();
    if (wanted.fault.name == "config-ones") {
      // Not even an identity can be read.
      const auto device = pci::Device::create(std::move(*opened));
      ASSERT_FALSE(device);
      EXPECT_EQ(device.error().verdict, Verdict::kGone);
      return;
    }
    const device::Report report = bench.probe(std::move(*opened), bind(wanted.observed), timeout());
    EXPECT_EQ(report.result, wanted.fault.expected) << describe(report);
    const auto& places = wanted.legacy ? legacy_places() : modern_places();
    if (const auto place = places.find(wanted.fault.name); place != places.end()) {
      EXPECT_EQ(report.step, place->second.step) << describe(report);
      EXPECT_EQ(report.reg, place->second.reg) << describe(report);
    }
    const bool waits = report.result == "stuck" || report.result == "stalled";
    if (waits) {
      EXPECT_GE(report.elapsed, timeout());
#if defined(UPCI_SIM)
      EXPECT_LE(report.elapsed, timeout() + 1ms);
#else
      EXPECT_LE(report.elapsed, timeout() + 5s);
#endif
    }
    if (!report.ok()) {
      ASSERT_TRUE(report.error.has_value());
      EXPECT_FALSE(report.error->what.empty());
      EXPECT_EQ(bench.context->bound(*bench.device), nullptr);
    }
  });
}

// A device that breaks down while its configuration is read says so: nobody waits until the deadline.
TEST(ConfigRead, ADeviceThatAsksToBeResetMeanwhileIsHeard) {
  run(5, [] {
    Bench bench;
    auto opened = emulation::emu::open(emu_spec({"modern"}, "generation-unstable"), bench.cables);
    ASSERT_TRUE(opened) << opened.error().message();
    auto breaker = platform::Thread::create({.name = "breaker"}, [backend = *opened] {
      sleep_for(50ms);
      emulation::emu::request_reset(*backend);
    });
    ASSERT_TRUE(breaker);
    const device::Report report = bench.probe(std::move(*opened), bind(true), 20s);
    breaker->join();
    EXPECT_EQ(report.result, "needs_reset") << describe(report);
    EXPECT_EQ(report.step, "config");
    EXPECT_LT(report.elapsed, 15s);
  });
}

// The faults that only traffic meets.

class HostileCard : public testing::TestWithParam<bool> {
 protected:
  /// Sends frames until the card has failed, or a while has passed.
  static void send_until_failed(virtio_net::Nic& nic, unsigned rounds) {
    for (unsigned round = 0; round < rounds && !nic.failed(); ++round) {
      send(nic, 0, 4, 60);
      std::array<virtio_net::Packet*, 32> packets;
      const std::size_t count = nic.rx_burst(packets);
      nic.free(std::span(packets).first(count));
      sleep_for(1ms);
    }
  }
  static void expect_ring_failure(virtio_net::Nic& nic, std::string_view reg) {
    const auto error = nic.failed();
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code, Errc::kDevice);
    EXPECT_EQ(error->reg, reg);
    EXPECT_EQ(nic.stats().recoveries, 5U) << "it was reset and brought back, until that was too often";
    EXPECT_EQ(send(nic, 0, 4, 60), 0U) << "a failed card takes nothing more";
  }
  /// `body` gets the card, and whether its rings are packed.
  template <class F>
  void with_fault(const std::string& fault, F body) {
    const std::vector<std::string> cards[] = {{"modern"}, {"legacy"}, {"modern", "packed=on"}};
    for (const std::vector<std::string>& words : cards) {
      run(3, [&] {
        Bench bench;
        const device::Report report = bench.probe_emu(emu_spec(words, fault), bind(GetParam()));
        ASSERT_TRUE(report.ok()) << describe(report);
        virtio_net::Nic* nic = bench.nic();
        ASSERT_NE(nic, nullptr);
        body(*nic, words.size() > 1);
        bench.remove();
      });
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Policies, HostileCard, testing::Bool(), policy_name);

TEST_P(HostileCard, AUsedIdOutOfRangeStopsTheCardOnceResetsDoNotHelp) {
  with_fault("used-id-out-of-range", [](virtio_net::Nic& nic, bool) {
    send_until_failed(nic, 5000);
    expect_ring_failure(nic, "used.id");
  });
}

TEST_P(HostileCard, AUsedLengthOutOfRangeStopsTheCardOnceResetsDoNotHelp) {
  with_fault("used-len-out-of-range", [](virtio_net::Nic& nic, bool) {
    send_until_failed(nic, 5000);
    expect_ring_failure(nic, "used.len");
  });
}

TEST_P(HostileCard, AUsedIndexThatJumpsStopsTheCardOnceResetsDoNotHelp) {
  with_fault("used-index-jump", [](virtio_net::Nic& nic, bool packed) {
    send_until_failed(nic, 5000);
    expect_ring_failure(nic, packed ? "used.id" : "used.idx");
  });
}

TEST_P(HostileCard, ABufferCountThatCannotBeStopsTheCardOnceResetsDoNotHelp) {
  with_fault("buffer-count-wrong", [](virtio_net::Nic& nic, bool) {
    send_until_failed(nic, 5000);
    expect_ring_failure(nic, "num_buffers");
  });
}

TEST_P(HostileCard, AnOffloadThatDoesNotFitItsFrameIsDroppedAndCounted) {
  for (const char* ring : {"packed=off", "packed=on"}) {
    run(3, [&] {
      Bench bench;
      device::BindOptions options = bind(GetParam());
      options.require_features = {"GUEST_CSUM"};
      const device::Report report = bench.probe_emu(emu_spec({"modern", "uso=on", ring}, "offload-wrong"), options);
      ASSERT_TRUE(report.ok()) << describe(report);
      virtio_net::Nic& nic = *bench.nic();
      send(nic, 0, 4, 60);
      for (int round = 0; round < 5000 && nic.stats().rx_bad_offload < 4; ++round) {
        std::array<virtio_net::Packet*, 32> packets;
        EXPECT_EQ(nic.rx_burst(packets), 0U);
        sleep_for(1ms);
      }
      EXPECT_EQ(nic.stats().rx_bad_offload, 4U);
      EXPECT_EQ(nic.stats().rx_frames, 0U);
      EXPECT_FALSE(nic.failed().has_value());
      bench.remove();
    });
  }
}

TEST_P(HostileCard, AFrameShorterThanItsHeaderIsDroppedAndCounted) {
  with_fault("used-len-short", [](virtio_net::Nic& nic, bool) {
    for (int round = 0; round < 5000 && nic.stats().rx_short < 4; ++round) {
      if (round == 0) send(nic, 0, 4, 60);
      std::array<virtio_net::Packet*, 32> packets;
      EXPECT_EQ(nic.rx_burst(packets), 0U);
      sleep_for(1ms);
    }
    EXPECT_EQ(nic.stats().rx_short, 4U);
    EXPECT_FALSE(nic.failed().has_value());
  });
}

TEST_P(HostileCard, ABrokenRingIsFoundByTheBottomHalfToo) {
  with_fault("used-id-out-of-range", [](virtio_net::Nic& nic, bool) {
    ASSERT_TRUE(nic.set_receiver([&](std::span<virtio_net::Packet* const> packets) { nic.free(packets); }));
    const Deadline deadline = Deadline::after(10s);
    while (!nic.failed() && !deadline.expired()) {
      send(nic, 0, 4, 60);
      sleep_for(1ms);
    }
    expect_ring_failure(nic, "used.id");
    const auto waited = nic.wait_tx_room(Deadline::after(10s));
    ASSERT_FALSE(waited);
    EXPECT_EQ(waited.error().code, Errc::kDevice);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
