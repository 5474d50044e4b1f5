// SPDX-License-Identifier: Apache-2.0
// Which interface and which driver a function gets, and what the report says of it.
#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using Interface = device::BindOptions::Interface;

device::BindOptions require(std::vector<std::string> names) {
  device::BindOptions options;
  options.require_features = std::move(names);
  return options;
}

device::BindOptions decline(std::vector<std::string> names) {
  device::BindOptions options;
  options.decline_features = std::move(names);
  return options;
}

bool has(const device::Report& report, std::string_view feature) {
  return std::find(report.features.begin(), report.features.end(), feature) != report.features.end();
}

TEST(Binding, ATransitionalDeviceIsDrivenAsModernUnlessLegacyIsAskedFor) {
  run(1, [] {
    for (const Interface interface : {Interface::kAuto, Interface::kModern, Interface::kLegacy}) {
      Bench bench;
      const device::Report report = bench.probe_emu(emu_spec({"transitional"}), bind(false, interface));
      ASSERT_EQ(report.result, "ok") << describe(report);
      EXPECT_EQ(report.driver, "virtio_pci");
      EXPECT_EQ(has(report, "VERSION_1"), interface != Interface::kLegacy);
      EXPECT_TRUE(has(report, "MAC"));
      bench.remove();
    }
  });
}

TEST(Binding, AnInterfaceThatTheDeviceLacksIsUnavailable) {
  run(1, [] {
    for (const auto& [words, interface] :
         {std::pair("modern", Interface::kLegacy), std::pair("legacy", Interface::kModern)}) {
      Bench bench;
      const device::Report report = bench.probe_emu(emu_spec({words}), bind(false, interface));
      EXPECT_EQ(report.result, "error") << words;
      ASSERT_TRUE(report.error.has_value());
      EXPECT_EQ(report.error->code, Errc::kUnavailable);
      EXPECT_FALSE(report.error->advice.empty());
    }
  });
}

TEST(Binding, WithoutADriverForItsTypeTheDeviceIsLeftAlone) {
  run(1, [] {
    Bench bench({}, false);
    const device::Report report = bench.probe_emu(emu_spec({"modern"}));
    EXPECT_EQ(report.result, "no_driver") << describe(report);
    EXPECT_EQ(bench.context->bound(*bench.device), nullptr);
  });
}

TEST(Binding, ADeclinedFeatureIsNotNegotiated) {
  run(1, [] {
    Bench bench;
    const device::Report report = bench.probe_emu(emu_spec({"modern", "link=down"}), decline({"STATUS"}));
    ASSERT_EQ(report.result, "ok") << describe(report);
    EXPECT_FALSE(has(report, "STATUS"));
    EXPECT_TRUE(bench.nic()->link_up()) << "without STATUS the link counts as up";
    bench.remove();
  });
}

TEST(Binding, InsistingOnAFeatureThatTheDeviceLacksIsRejected) {
  run(1, [] {
    Bench bench;
    const device::Report report = bench.probe_emu(emu_spec({"modern"}), require({"MTU"}));
    EXPECT_EQ(report.result, "rejected") << describe(report);
    EXPECT_EQ(report.step, "features");
    Bench other;
    EXPECT_EQ(other.probe_emu(emu_spec({"modern", "mtu=1500"}), require({"MTU"})).result, "ok");
  });
}

TEST(Binding, AnUnknownFeatureIsInvalid) {
  run(1, [] {
    Bench bench;
    const device::Report report = bench.probe_emu(emu_spec({"modern"}), require({"WARP_DRIVE"}));
    EXPECT_EQ(report.result, "error");
    EXPECT_EQ(report.error.value().code, Errc::kInvalid);
  });
}

TEST(Binding, MergeableBuffersEventIndexAndIndirectDescriptorsAreAccepted) {
  run(1, [] {
    Bench bench;
    const device::Report report =
        bench.probe_emu(emu_spec({"modern", "mrg_rxbuf=on", "event_idx=on", "indirect_desc=on"}));
    ASSERT_EQ(report.result, "ok");
    EXPECT_TRUE(has(report, "MRG_RXBUF"));
    EXPECT_TRUE(has(report, "EVENT_IDX"));
    EXPECT_TRUE(has(report, "INDIRECT_DESC"));
    bench.remove();
  });
}

TEST(Binding, AnObserverOfOnesOwnSeesTheRingsAccesses) {
  struct Counting final : virtio::RingObserver {
    explicit Counting(std::uint64_t& total) : count(total) {}
    void on_write_descriptor(std::uint16_t, const virtio::spec::ring::Descriptor&) override { ++count; }
    void on_write_table_entry(std::uint16_t, std::uint16_t, const virtio::spec::ring::Descriptor&) override { ++count; }
    void on_write_avail_entry(std::uint16_t, std::uint16_t) override { ++count; }
    void on_publish_avail_index(std::uint16_t) override { ++count; }
    void on_write_avail_flags(std::uint16_t) override { ++count; }
    void on_write_used_event(std::uint16_t) override { ++count; }
    std::uint16_t on_read_avail_event(std::uint16_t event) override { return event; }
    std::uint16_t on_read_used_flags(std::uint16_t flags) override { return flags; }
    std::uint16_t on_read_used_index(std::uint16_t index) override { return index; }
    virtio::spec::ring::UsedElement on_read_used_element(std::uint16_t, virtio::spec::ring::UsedElement e) override {
      return e;
    }
    std::uint64_t& count;
  };
  run(1, [] {
    std::uint64_t accesses = 0;
    std::vector<std::uint16_t> queues;
    Bench bench({.make_observer = [&](std::uint16_t queue, std::uint16_t) {
      queues.push_back(queue);
      return std::make_unique<Counting>(accesses);
    }});
    ASSERT_EQ(bench.probe_emu(emu_spec({"modern"}), bind(true)).result, "ok");
    EXPECT_EQ(queues, (std::vector<std::uint16_t>{0, 1}));
    const std::uint64_t filled = accesses;
    EXPECT_GE(filled, 256U * 2);
    loop_polled(*bench.nic(), {.frames = 10});
    EXPECT_GE(accesses, filled + 10 * 2);
    bench.remove();
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
