// SPDX-License-Identifier: Apache-2.0
// Each fault shows what its description says.
#include <set>

#include "base/wait.h"
#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Common = vpci::Common;
using Legacy = vpci::Legacy;
using std::chrono::milliseconds;
constexpr std::uint16_t kRx = vspec::net::kReceiveQueue;
constexpr std::uint16_t kTx = vspec::net::kTransmitQueue;

/// How long the status takes to read 0 after a reset, at most `limit`.
platform::Nanoseconds reset_time(TinyDriver& driver, platform::Nanoseconds limit) {
  const platform::TimePoint start = platform::Clock::now();
  driver.set_status(0);
  while (driver.status() != 0 && platform::Clock::now() - start < limit) sleep_for(milliseconds(1));
  return platform::Clock::now() - start;
}

TEST(EmuFaults, StatusSlowReadsBackZeroAfterTheTimeAskedFor) {
  each_run(
      [] {
        for (const bool legacy : {false, true}) {
          TinyDriver driver(
              open_device(legacy ? "legacy,fault=status-slow,fault_ms=80" : "fault=status-slow,fault_ms=80"), legacy);
          EXPECT_NE(driver.status(), 0) << "firmware has left it running";
          const auto took = reset_time(driver, milliseconds(10'000));
          EXPECT_GE(took, milliseconds(80));
          EXPECT_LT(took, milliseconds(5'000));
          EXPECT_EQ(driver.status(), 0);
        }
      },
      5);
}

TEST(EmuFaults, StatusSlowIsLateButInTimeForTwoSeconds) {
#if defined(UPCI_SIM)
  each_run(
      [] {
        TinyDriver driver(open_device("fault=status-slow"));
        const auto took = reset_time(driver, milliseconds(10'000));
        EXPECT_GE(took, milliseconds(1'000));
        EXPECT_LT(took, milliseconds(2'000));
      },
      5);
#else
  EXPECT_TRUE(emu::check(spec_of("fault=status-slow"))) << "1.2 s of real time; the simulation measures it";
#endif
}

TEST(EmuFaults, StatusStuckNeverCompletesButAFunctionResetHelps) {
  each_run(
      [] {
        for (const bool legacy : {false, true}) {
          TinyDriver driver(open_device(legacy ? "legacy,fault=status-stuck" : "fault=status-stuck"), legacy);
          EXPECT_EQ(driver.status(), 0x0f);
          EXPECT_GE(reset_time(driver, milliseconds(50)), milliseconds(50));
          EXPECT_EQ(driver.status(), 0x0f);
          EXPECT_TRUE(driver.backend().control().present());
          ASSERT_TRUE(driver.backend().control().reset(Deadline::after(milliseconds(100))));
          EXPECT_EQ(driver.status(), 0);
        }
      },
      3);
}

TEST(EmuFaults, GoneLeavesTheBusInMidHandshake) {
  each_run(
      [] {
        for (const bool legacy : {false, true}) {
          TinyDriver driver(open_device(legacy ? "legacy,fault=gone" : "fault=gone"), legacy);
          driver.reset();
          driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
          EXPECT_TRUE(driver.backend().control().present());
          driver.set_features(legacy ? TinyDriver::kUsualLegacy : TinyDriver::kUsual);
          if (!legacy) driver.set_status(vstatus::kAcknowledge | vstatus::kDriver | vstatus::kFeaturesOk);
          EXPECT_EQ(driver.status(), 0xff);
          EXPECT_EQ(driver.backend().config_read(0, 4), 0xffff'ffffU);
          EXPECT_FALSE(driver.backend().control().present());
          EXPECT_TRUE(driver.backend().control().proven_quiet());
          EXPECT_FALSE(driver.backend().control().reset(Deadline::after(milliseconds(100))));
          EXPECT_TRUE(driver.backend().control().set_bus_master(false));
        }
      },
      3);
}

TEST(EmuFaults, NeedsResetIsSetDuringTheHandshake) {
  each_run(
      [] {
        TinyDriver driver(open_device("fault=needs-reset"));
        driver.reset();
        driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
        driver.set_features(TinyDriver::kUsual);
        EXPECT_EQ(driver.status() & vstatus::kNeedsReset, 0);
        driver.add_status(vstatus::kFeaturesOk);
        EXPECT_NE(driver.status() & vstatus::kNeedsReset, 0);

        TinyDriver legacy(open_device("legacy,queue_size=16,fault=needs-reset"), true);
        legacy.bring_up_to_queues(TinyDriver::kUsualLegacy);
        EXPECT_EQ(legacy.status() & vstatus::kNeedsReset, 0);
        legacy.add_status(vstatus::kDriverOk);
        EXPECT_NE(legacy.status() & vstatus::kNeedsReset, 0);
      },
      3);
}

TEST(EmuFaults, FeaturesRejectedDoesNotKeepFeaturesOk) {
  each_run(
      [] {
        TinyDriver driver(open_device("fault=features-rejected"));
        driver.reset();
        driver.set_status(vstatus::kAcknowledge | vstatus::kDriver);
        driver.set_features(TinyDriver::kUsual);
        driver.add_status(vstatus::kFeaturesOk);
        EXPECT_EQ(driver.status(), vstatus::kAcknowledge | vstatus::kDriver);
        EXPECT_EQ(driver.violations(), std::vector<std::string>());
      },
      3);
}

TEST(EmuFaults, MemoryDecodeOffLeavesTheConfigSpaceAlive) {
  each_run(
      [] {
        TinyDriver driver(open_device("fault=memory-decode-off"));
        EXPECT_EQ(driver.backend().config_read(0, 2), vpci::kVendor);
        driver.backend().config_write(4, 2, 7);
        EXPECT_EQ(driver.backend().config_read(4, 2) & 3U, 0U) << "decoding cannot be switched on";
        EXPECT_EQ(driver.status(), 0xff);
        EXPECT_TRUE(driver.backend().control().present());
      },
      1);
}

TEST(EmuFaults, GenerationUnstableIsNeverTwiceTheSame) {
  each_run(
      [] {
        TinyDriver driver(open_device("fault=generation-unstable"));
        for (int i = 0; i < 10; ++i) {
          const std::uint8_t first = driver.read<Common::ConfigGeneration>();
          EXPECT_NE(driver.read<Common::ConfigGeneration>(), first);
        }
      },
      1);
}

TEST(EmuFaults, VectorRejectedReadsBackNoVector) {
  each_run(
      [] {
        TinyDriver driver(open_device("fault=vector-rejected"));
        driver.enable_interrupts();
        driver.bring_up_to_queues(TinyDriver::kUsual);
        driver.write<Common::ConfigMsixVector>(0);
        EXPECT_EQ(driver.read<Common::ConfigMsixVector>(), vpci::kNoVector);
        EXPECT_EQ(driver.read<Common::QueueMsixVector>(), vpci::kNoVector);
      },
      1);
}

TEST(EmuFaults, VersionMissingOffersTheRest) {
  each_run(
      [] {
        TinyDriver driver(open_device("fault=version-missing"));
        EXPECT_EQ(driver.features() & vspec::mask_of(vspec::feature::kVersion1), 0U);
        EXPECT_NE(driver.features() & vspec::mask_of(vspec::net_feature::kMac), 0U);
      },
      1);
}

TEST(EmuFaults, ConfigOnesHidesTheDevice) {
  each_run(
      [] {
        auto device = open_device("fault=config-ones");
        ASSERT_NE(device, nullptr);
        for (std::uint16_t at = 0; at < 256; at = static_cast<std::uint16_t>(at + 4)) {
          EXPECT_EQ(device->config_read(at, 4), 0xffff'ffffU);
        }
        EXPECT_FALSE(device->control().present());
      },
      1);
}

/// The capability list's offsets until it ends, repeats itself or leaves the area for capabilities.
std::string walk(pci::Backend& device) {
  std::set<std::uint32_t> seen;
  std::uint32_t at = device.config_read(0x34, 1);
  while (at != 0) {
    if (!seen.insert(at).second) return "loop";
    if (at < 0x40) return "low";
    at = device.config_read(static_cast<std::uint16_t>(at + 1), 1);
  }
  return "end";
}

/// The value of a field of the common configuration's capability, or nothing when there is none.
std::optional<std::uint32_t> common_field(pci::Backend& device, std::uint8_t field, unsigned width) {
  for (std::uint32_t at = device.config_read(0x34, 1); at != 0;
       at = device.config_read(static_cast<std::uint16_t>(at + 1), 1)) {
    const bool virtio = device.config_read(static_cast<std::uint16_t>(at), 1) == vpci::kVendorCapability;
    if (virtio && device.config_read(static_cast<std::uint16_t>(at + vpci::cap::kType), 1) == 1) {
      return device.config_read(static_cast<std::uint16_t>(at + field), width);
    }
  }
  return std::nullopt;
}

TEST(EmuFaults, CapabilityFaultsBreakTheList) {
  each_run(
      [] {
        EXPECT_EQ(walk(*open_device()), "end");
        for (const char* interface : {"", "legacy,", "transitional,"}) {
          EXPECT_EQ(walk(*open_device(std::string(interface) + "fault=cap-loop")), "loop");
          EXPECT_EQ(walk(*open_device(std::string(interface) + "fault=cap-pointer-low")), "low");
        }
        auto beyond = open_device("fault=cap-out-of-range");
        EXPECT_GT(*common_field(*beyond, vpci::cap::kOffset, 4) + vpci::kCommonSize, beyond->bar(4).size);
        EXPECT_EQ(common_field(*open_device("fault=cap-bar-invalid"), vpci::cap::kBar, 1), 7U);
        EXPECT_EQ(common_field(*open_device("fault=cap-short"), vpci::cap::kStructLength, 4), 4U);
        EXPECT_EQ(common_field(*open_device("fault=cap-missing"), vpci::cap::kType, 1), std::nullopt);
      },
      1);
}

TEST(EmuFaults, BarSizeZeroIsTheBarOfTheRegisters) {
  each_run(
      [] {
        auto modern = open_device("fault=bar-size-zero");
        EXPECT_EQ(modern->bar(4).size, 0U);
        EXPECT_EQ(modern->bar_read(4, 0, 4), 0xffff'ffffU);
        auto legacy = open_device("legacy,fault=bar-size-zero");
        EXPECT_EQ(legacy->bar(0).size, 0U);
      },
      1);
}

TEST(EmuFaults, NotifyOutOfRangePointsBeyondTheArea) {
  each_run(
      [] {
        TinyDriver driver(open_device("fault=notify-out-of-range"));
        EXPECT_GE(driver.read<Common::QueueNotifyOff>() * 4U, 0x1000U);
      },
      1);
}

TEST(EmuFaults, QueueSizesAreWhatNoQueueMayHave) {
  each_run(
      [] {
        const struct {
          const char* fault;
          std::uint16_t size;
        } cases[] = {{"queue-size-zero", 0}, {"queue-size-huge", 65535}, {"queue-size-odd", 100}};
        for (const auto& one : cases) {
          TinyDriver modern(open_device("fault=" + std::string(one.fault)));
          EXPECT_EQ(modern.read<Common::QueueSize>(), one.size);
          EXPECT_FALSE(vring::is_valid_size(one.size));
          TinyDriver legacy(open_device("legacy,fault=" + std::string(one.fault)), true);
          EXPECT_EQ(legacy.read<Legacy::QueueSize>(), one.size);
        }
      },
      1);
}

/// Sends one frame and waits until both queues' used indices have moved.
void pass_one(TinyDriver& driver) {
  driver.bring_up();
  driver.send(make_frame(64, 1));
  EXPECT_TRUE(eventually([&] { return driver.used_index(kTx) != 0 && driver.used_index(kRx) != 0; }));
}

TEST(EmuFaults, UsedRingFaultsShowInTheUsedRing) {
  each_run(
      [] {
        TinyDriver id(open_device("fault=used-id-out-of-range"));
        pass_one(id);
        EXPECT_GE(id.used_element(kTx, 0).id, TinyDriver::kSize);
        EXPECT_GE(id.used_element(kRx, 0).id, TinyDriver::kSize);

        TinyDriver length(open_device("fault=used-len-out-of-range"));
        pass_one(length);
        EXPECT_GT(length.used_element(kRx, 0).len, TinyDriver::kBuffer);

        TinyDriver brief(open_device("fault=used-len-short"));
        pass_one(brief);
        EXPECT_LT(brief.used_element(kRx, 0).len, brief.header_bytes());

        TinyDriver jump(open_device("fault=used-index-jump"));
        pass_one(jump);
        EXPECT_GT(jump.used_index(kRx), TinyDriver::kSize);
      },
      3);
}

TEST(EmuFaults, EveryFaultCanBeOpenedResetAndClosed) {
  each_run(
      [] {
        for (const auto& fault : emu::faults()) {
          auto device = open_device("fault=" + std::string(fault.name));
          ASSERT_NE(device, nullptr) << fault.name;
          device->bar_write(4, Common::DeviceStatus::offset, 1, 0);
          static_cast<void>(device->control().set_bus_master(true));
          static_cast<void>(device->control().set_bus_master(false));
          static_cast<void>(device->control().reset(Deadline::after(milliseconds(100))));
          EXPECT_TRUE(device->control().proven_quiet()) << fault.name;
        }
      },
      2);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
