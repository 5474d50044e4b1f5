// SPDX-License-Identifier: Apache-2.0
// The status handshake, on the simulated clock: what is written in which order, and what each way of failing ends in, to
// the nanosecond.
#include <chrono>

#include "tests/sim.h"
#include "tests/virtio/fake_transport.h"

namespace upci::virtio_tests {
namespace {

using namespace std::chrono_literals;
using Log = std::vector<std::string>;

/// Runs `body` in one simulated run with a device and a driver of its own.
struct World {
  std::shared_ptr<FakeTransport> transport;
  std::unique_ptr<FakeDriver> driver;
  platform::Nanoseconds took{};

  explicit World(bool legacy = false, device::BindOptions options = {})
      : transport(std::make_shared<FakeTransport>(FakeDevice::make(std::move(options)), legacy)),
        driver(std::make_unique<FakeDriver>(*transport)) {}

  Result<std::unique_ptr<virtio::Bound>> initialize(platform::Nanoseconds timeout = 300ms) {
    const platform::TimePoint begin = platform::Clock::now();
    auto result = virtio::initialize(transport, *driver, Deadline::after(timeout));
    took = platform::Clock::now() - begin;
    return result;
  }
  FlightRecorder& recorder() { return transport->device().state()->recorder(); }
};

template <class F>
void simulate(F body) {
  test::run_seed(1, body);
}

void expect_verdict(const Result<std::unique_ptr<virtio::Bound>>& result, Verdict verdict, std::string_view step,
                    std::string_view reg = "device_status") {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::kVerdict);
  ASSERT_TRUE(result.error().verdict.has_value()) << result.error().message();
  EXPECT_EQ(to_string(*result.error().verdict), to_string(verdict));
  EXPECT_EQ(result.error().step, step);
  EXPECT_EQ(result.error().reg, reg);
}

TEST(Handshake, ModernWritesEachStatusBitInTheSpecificationsOrder) {
  simulate([] {
    World world;
    auto bound = world.initialize();
    ASSERT_TRUE(bound) << bound.error().message();
    EXPECT_EQ(world.transport->log, (Log{"status 0", "bus_master on", "status 1", "status 3", "features", "status 11",
                                         "probe", "status 15", "start"}));
    EXPECT_EQ(world.transport->accepted, world.transport->offered);
    EXPECT_EQ(world.driver->seen_features, world.transport->offered);
    EXPECT_EQ(world.transport->device().features(), (std::vector<std::string>{"MAC", "VERSION_1"}));
  });
}

TEST(Handshake, LegacyHasNoFeaturesOk) {
  simulate([] {
    World world(true);
    const auto bound = world.initialize();
    ASSERT_TRUE(bound) << bound.error().message();
    EXPECT_EQ(world.transport->log,
              (Log{"status 0", "bus_master on", "status 1", "status 3", "features", "probe", "status 7", "start"}));
  });
}

TEST(Handshake, AResetThatNeverEndsIsStuckAtTheDeadlineExactlyAndNothingMoreIsWritten) {
  simulate([] {
    World world;
    world.transport->reset_never = true;
    world.transport->set_initial_status(0x0f);
    auto result = world.initialize(300ms);
    expect_verdict(result, Verdict::kStuck, "reset");
    EXPECT_EQ(world.took, 300ms);
    EXPECT_EQ(world.transport->log, (Log{"status 0"}));
    EXPECT_FALSE(result.error().advice.empty());
    EXPECT_EQ(world.recorder().step(), "reset");
    EXPECT_NE(world.recorder().stack().depth, 0U);
  });
}

TEST(Handshake, AKernelsTimeoutOf180SecondsIsExactToo) {
  simulate([] {
    World world;
    world.transport->reset_never = true;
    world.transport->set_initial_status(0x0f);
    expect_verdict(world.initialize(180s), Verdict::kStuck, "reset");
    EXPECT_EQ(world.took, 180s);
  });
}

TEST(Handshake, TheBacktraceOfAStuckResetNamesTheWaitingFunction) {
  simulate([] {
    World world;
    world.transport->reset_never = true;
    world.transport->set_initial_status(0x0f);
    ASSERT_FALSE(world.initialize(5ms));
    std::string names;
    for (const StackFrame& frame : symbolize(world.recorder().stack())) names += frame.function + "\n";
    EXPECT_NE(names.find("virtio::reset("), std::string::npos) << names;
    EXPECT_NE(names.find("virtio::initialize("), std::string::npos) << names;
  });
}

TEST(Handshake, ASlowResetIsWaitedForBeforeAnythingElseIsWritten) {
  simulate([] {
    World world;
    world.transport->set_initial_status(0x0f);
    world.transport->reset_takes = 120ms;
    ASSERT_TRUE(world.initialize(300ms));
    EXPECT_GE(world.took, 120ms);
    EXPECT_LE(world.took, 122ms);
  });
}

TEST(Handshake, NeedsResetDuringAResetIsStuck) {
  simulate([] {
    World world;
    world.transport->reset_never = true;
    world.transport->set_initial_status(0x4f);
    expect_verdict(world.initialize(), Verdict::kStuck, "reset");
  });
}

TEST(Handshake, AllOnesFromADeviceThatIsThereAreStuck) {
  simulate([] {
    World world;
    world.transport->decode_off = true;
    auto result = world.initialize();
    expect_verdict(result, Verdict::kStuck, "reset");
    EXPECT_EQ(world.took, 300ms);
    EXPECT_NE(result.error().advice.find("decoding"), std::string::npos);
  });
}

TEST(Handshake, AllOnesFromADeviceThatHasLeftAreGoneAtOnce) {
  simulate([] {
    World world;
    world.transport->leaves_at = 0;
    expect_verdict(world.initialize(), Verdict::kGone, "reset");
    EXPECT_LT(world.took, 1ms);
  });
}

TEST(Handshake, AStatusThatDoesNotReadBackIsStuck) {
  simulate([] {
    World world;
    world.transport->deaf = true;
    expect_verdict(world.initialize(), Verdict::kStuck, "acknowledge");
    EXPECT_EQ(world.took, 300ms);
  });
}

struct StatusCase {
  bool legacy;
  int written;
  std::string_view step;
};

void PrintTo(const StatusCase& value, std::ostream* out) {
  *out << (value.legacy ? "legacy " : "modern ") << value.step;
}

class HandshakeStep : public testing::TestWithParam<StatusCase> {};
INSTANTIATE_TEST_SUITE_P(Steps, HandshakeStep,
                         testing::Values(StatusCase{false, 3, "acknowledge"}, StatusCase{false, 11, "features_ok"},
                                         StatusCase{false, 15, "driver_ok"}, StatusCase{true, 3, "acknowledge"},
                                         StatusCase{true, 7, "driver_ok"}));

TEST_P(HandshakeStep, NeedsResetEndsItAtOnceAndFailedIsWritten) {
  simulate([] {
    World world(GetParam().legacy);
    world.transport->needs_reset_at = GetParam().written;
    expect_verdict(world.initialize(), Verdict::kNeedsReset, GetParam().step);
    EXPECT_LT(world.took, 1ms);
    const std::string& last = world.transport->log.back();
    ASSERT_TRUE(last.starts_with("status ") || last == "gone") << last;
    EXPECT_NE(world.transport->status() & status::kFailed, 0) << "FAILED was not written";
  });
}

TEST_P(HandshakeStep, ADeviceThatLeavesIsGoneAndNothingMoreIsWritten) {
  simulate([] {
    World world(GetParam().legacy);
    world.transport->leaves_at = GetParam().written;
    expect_verdict(world.initialize(), Verdict::kGone, GetParam().step);
    for (const std::string& entry : world.transport->log) {
      EXPECT_NE(entry, "status 255");
      EXPECT_NE(entry, "status " + std::to_string(status::kFailed));
    }
  });
}

TEST(Handshake, FeaturesOkThatDoesNotStickIsRejected) {
  simulate([] {
    World world;
    world.transport->features_rejected = true;
    expect_verdict(world.initialize(), Verdict::kRejected, "features_ok");
    EXPECT_LT(world.took, 1ms);
    EXPECT_EQ(world.transport->log.back(), "status 131");
  });
}

TEST(Handshake, AModernDeviceWithoutVersion1IsRejectedBeforeAnyFeatureIsWritten) {
  simulate([] {
    World world;
    world.transport->offered = virtio::spec::mask_of(virtio::spec::net_feature::kMac);
    expect_verdict(world.initialize(), Verdict::kRejected, "features", "device_feature");
    EXPECT_EQ(world.transport->log, (Log{"status 0", "bus_master on", "status 1", "status 3", "status 131"}));
  });
}

TEST(Handshake, AFailedProbeOfTheDriverLeavesFailed) {
  simulate([] {
    World world;
    world.driver->probe_fails = true;
    auto result = world.initialize();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().what, "the probe fails");
    EXPECT_EQ(world.transport->log.back(), "status 139");
  });
}

TEST(Handshake, AFailedStartResetsTheDeviceBeforeTheQueuesGoAway) {
  simulate([] {
    World world;
    world.driver->start_fails = true;
    auto result = world.initialize();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().what, "the start fails");
    const Log& log = world.transport->log;
    ASSERT_GE(log.size(), 4U);
    EXPECT_EQ(Log(log.end() - 4, log.end()), (Log{"start", "status 0", "status 128", "gone"}));
    EXPECT_FALSE(world.transport->device().state()->quarantined());
  });
}

TEST(Handshake, WhereThatResetDoesNotEndTheDeviceIsQuarantinedAndItsStatusLeftAlone) {
  simulate([] {
    World world;
    world.driver->start_fails = true;
    // The first reset ends, the second does not.
    const auto transport = world.transport;
    transport->fake().control_.log_ = [&transport](std::string) { transport->reset_never = true; };
    auto result = world.initialize();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().what, "the start fails");
    EXPECT_TRUE(transport->device().state()->quarantined());
    const Log& log = transport->log;
    EXPECT_EQ(Log(log.end() - 3, log.end()), (Log{"start", "status 0", "gone"}));
    EXPECT_EQ(world.recorder().step(), "driver_ok");
  });
}

TEST(Handshake, AnAbandonedDeviceIsGone) {
  simulate([] {
    World world;
    world.transport->device().state()->abandon();
    expect_verdict(world.initialize(), Verdict::kGone, "reset");
  });
}

}  // namespace
}  // namespace upci::virtio_tests
