// SPDX-License-Identifier: Apache-2.0
// The observers are between a driver and its device, whichever interface it uses: here a driver that does everything wrong.
#include <utility>

#include "pci/config.h"
#include "tests/drivers/bench.h"
#include "virtio/lint/clauses.h"
#include "virtio/lint/watch.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

namespace lint = virtio::lint;
namespace vpci = virtio::spec::pci;
using lint::RegisterRule;

/// A card behind the observers, without a driver.
struct Bare {
  explicit Bare(const std::string& interface) {
    auto opened = emulation::emu::open(emu_spec({interface}), cables);
    EXPECT_TRUE(opened);
    backend = watch.wrap(std::move(*opened));
    backend->config_write(kCommand, 2, kDecode);
  }
  /// Where a structure lies: BAR and offset.
  std::pair<unsigned, std::uint64_t> place(vpci::CapType type) {
    const pci::ConfigSpace config(backend);
    const auto capabilities = config.capabilities();
    for (const pci::Capability& one : capabilities.value()) {
      const auto field = [&one](std::uint8_t at) { return static_cast<std::uint16_t>(one.offset + at); };
      if (one.id != vpci::kVendorCapability ||
          config.read8(field(vpci::cap::kType)) != static_cast<std::uint8_t>(type)) {
        continue;
      }
      return {config.read8(field(vpci::cap::kBar)), config.read32(field(vpci::cap::kOffset))};
    }
    ADD_FAILURE() << "no such structure";
    return {};
  }
  std::uint64_t count(RegisterRule rule) const { return watch.registers()->violations(rule); }

  static constexpr std::uint16_t kCommand = 4;
  static constexpr std::uint16_t kDecode = 3;  // ports and memory
  emulation::Cables cables;
  lint::Watch watch;
  std::shared_ptr<pci::Backend> backend;
};

TEST(Watch, SeesTheModernRegisters) {
  run(1, [] {
    Bare bare("modern");
    ASSERT_NE(bare.watch.registers(), nullptr);
    const auto [bar, common] = bare.place(vpci::CapType::kCommon);
    bare.backend->bar_write(bar, common + vpci::Common::DeviceStatus::offset, 1, virtio::spec::status::kAcknowledge);
    EXPECT_EQ(bare.count(RegisterRule::kStatusOrder), 1U) << "no reset before";
    bare.backend->bar_read(bar, common + vpci::Common::QueueSize::offset, 1);
    EXPECT_EQ(bare.count(RegisterRule::kAccessWidth), 1U);
    const auto [notify_bar, notify] = bare.place(vpci::CapType::kNotify);
    bare.backend->bar_write(notify_bar, notify, 2, 0);
    EXPECT_EQ(bare.count(RegisterRule::kNotifiedEarly), 1U);
    const auto [config_bar, config] = bare.place(vpci::CapType::kDevice);
    bare.backend->bar_write(config_bar, config, 1, 0);
    EXPECT_EQ(bare.count(RegisterRule::kConfigNotForDriver), 1U);
    EXPECT_EQ(bare.count(RegisterRule::kConfigWrittenEarly), 1U);
    EXPECT_EQ(bare.watch.breaches().size(), 5U);
  });
}

TEST(Watch, SeesTheLegacyRegisters) {
  run(1, [] {
    Bare bare("legacy");
    ASSERT_NE(bare.watch.registers(), nullptr);
    bare.backend->bar_write(vpci::kLegacyBar, vpci::Legacy::DeviceStatus::offset, 1, 0);
    bare.backend->bar_read(vpci::kLegacyBar, vpci::Legacy::DeviceStatus::offset, 1);
    bare.backend->bar_write(vpci::kLegacyBar, vpci::Legacy::DeviceStatus::offset, 1,
                            virtio::spec::status::kAcknowledge);
    EXPECT_TRUE(bare.watch.breaches().empty());
    bare.backend->bar_write(vpci::kLegacyBar, vpci::Legacy::QueueNotify::offset, 2, 0);
    EXPECT_EQ(bare.count(RegisterRule::kNotifiedEarly), 1U);
    bare.backend->bar_read(vpci::kLegacyBar, vpci::kLegacyConfigOffset, 4);  // the MAC is bytes
    EXPECT_EQ(bare.count(RegisterRule::kAccessWidth), 1U);
  });
}

TEST(Watch, SeesWritesIntoTheCapabilitiesAndNoOthersOfTheConfigSpace) {
  run(1, [] {
    Bare bare("modern");
    const pci::ConfigSpace config(bare.backend);
    config.write16(Bare::kCommand, Bare::kDecode);
    EXPECT_EQ(bare.watch.registers()->violations(), 0U);
    const auto capability = config.find(vpci::kVendorCapability);
    ASSERT_TRUE(capability && capability->has_value());
    config.write32(static_cast<std::uint16_t>((*capability)->offset + vpci::cap::kOffset), 0);
    EXPECT_EQ(bare.count(RegisterRule::kCapabilityWritten), 1U);
  });
}

TEST(Watch, CountsWhatTheDeviceDoesWrongApart) {
  const std::pair<const char*, lint::DeviceRule> faults[] = {{"version-missing", lint::DeviceRule::kVersion1Missing},
                                                             {"queue-size-odd", lint::DeviceRule::kQueueSizeNoPower}};
  for (const auto& one : faults) {
    run(1, [&one] {
      const char* const fault = one.first;
      const lint::DeviceRule rule = one.second;
      Bench bench;
      EXPECT_FALSE(bench.probe_emu(emu_spec({"modern"}, fault)).ok());
      EXPECT_GE(bench.watched.watch.registers()->device_violations(rule), 1U) << fault;
      EXPECT_FALSE(bench.watched.watch.device_breaches().empty());
      EXPECT_TRUE(bench.watched.watch.breaches().empty());
    });
  }
}

TEST(Watch, KnowsWhichMemoryTheDeviceWasGiven) {
  run(1, [] {
    Bare bare("modern");
    const auto [bar, common] = bare.place(vpci::CapType::kCommon);
    const auto at = [&](std::uint32_t offset) { return common + offset; };
    auto memory = bare.backend->dma().alloc({.len = 4096});
    ASSERT_TRUE(memory);
    const auto low = static_cast<std::uint32_t>((*memory)->iova());
    const auto high = static_cast<std::uint32_t>((*memory)->iova() >> 32);
    for (const unsigned half : {0U, 1U, 2U}) {
      bare.backend->bar_write(bar, at(vpci::Common::QueueDescLow::offset + 8 * half), 4, low);
      bare.backend->bar_write(bar, at(vpci::Common::QueueDescHigh::offset + 8 * half), 4, high);
    }
    bare.backend->bar_write(bar, at(vpci::Common::QueueEnable::offset), 2, 1);
    EXPECT_EQ(bare.count(RegisterRule::kQueueAddressForeign), 0U);
    memory->reset();
    bare.backend->bar_write(bar, at(vpci::Common::QueueEnable::offset), 2, 1);
    EXPECT_EQ(bare.count(RegisterRule::kQueueAddressForeign), 3U);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
