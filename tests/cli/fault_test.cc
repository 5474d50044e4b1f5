// SPDX-License-Identifier: Apache-2.0
// Each fault of our model, as the program reports it: verdict, step, register, exit code.
#include <gtest/gtest.h>

#include "emulation/emu/emu.h"
#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

using nlohmann::json;

struct Case {
  std::string fault;
  std::string result;
  std::string step;
  std::string reg;  // "" where none was waited for
  int exit_code;
  std::string words = "";
  std::string timeout = "1s";
};
void PrintTo(const Case& c, std::ostream* stream) { *stream << c.fault << c.words; }

class Fault : public testing::TestWithParam<Case> {};

TEST_P(Fault, GivesItsResultStepRegisterAndExitCode) {
  const Case& expected = GetParam();
  const Outcome outcome = run_upci({"probe", "emu:virtio-net" + expected.words + ",fault=" + expected.fault,
                                    "--timeout", expected.timeout, "--json"});
  EXPECT_EQ(outcome.exit_code, expected.exit_code) << outcome;
  const json device = outcome.json()["devices"].at(0);
  EXPECT_EQ(device["result"], expected.result) << outcome;
  if (!expected.step.empty()) { EXPECT_EQ(device["step"], expected.step) << outcome; }
  if (!expected.reg.empty()) { EXPECT_EQ(device["register"], expected.reg) << outcome; }
  if (expected.exit_code != 0) { EXPECT_TRUE(device["error"].is_string()) << outcome; }
  EXPECT_FALSE(outcome.left_processes);
}

INSTANTIATE_TEST_SUITE_P(OneForEachVerdict, Fault,
                         testing::Values(Case{"status-slow", "slow", "", "", 0, ",fault_ms=1200", "2s"},
                                         Case{"status-stuck", "stuck", "reset", "device_status", 3},
                                         Case{"gone", "gone", "features_ok", "device_status", 3},
                                         Case{"needs-reset", "needs_reset", "features_ok", "device_status", 3},
                                         Case{"features-rejected", "rejected", "features_ok", "device_status", 3},
                                         Case{"access-stalled", "stalled", "reset", "device_status", 3}));

INSTANTIATE_TEST_SUITE_P(Legacy, Fault,
                         testing::Values(Case{"status-slow", "slow", "", "", 0, ",legacy,fault_ms=1200", "2s"},
                                         Case{"status-stuck", "stuck", "reset", "device_status", 3, ",legacy"},
                                         Case{"gone", "gone", "config", "device_config", 3, ",legacy"},
                                         Case{"needs-reset", "needs_reset", "driver_ok", "device_status", 3, ",legacy"},
                                         Case{"access-stalled", "stalled", "reset", "device_status", 3, ",legacy"}));

INSTANTIATE_TEST_SUITE_P(MoreWaysToAVerdict, Fault,
                         testing::Values(Case{"memory-decode-off", "stuck", "reset", "device_status", 3},
                                         Case{"generation-unstable", "stuck", "config", "config_generation", 3},
                                         Case{"vector-rejected", "rejected", "queues", "config_msix_vector", 3},
                                         Case{"version-missing", "rejected", "features", "device_feature", 3},
                                         Case{"config-ones", "gone", "probe", "vendor_id", 3}));

INSTANTIATE_TEST_SUITE_P(
    BadConfigSpace, Fault,
    testing::Values(Case{"cap-loop", "error", "", "", 1}, Case{"cap-pointer-low", "error", "", "", 1},
                    Case{"cap-out-of-range", "error", "", "", 1}, Case{"cap-bar-invalid", "error", "", "", 1},
                    Case{"cap-short", "error", "", "", 1}, Case{"cap-missing", "error", "", "", 1},
                    Case{"bar-size-zero", "error", "", "", 1}, Case{"notify-out-of-range", "error", "queues", "", 1}));

INSTANTIATE_TEST_SUITE_P(BadQueues, Fault,
                         testing::Values(Case{"queue-size-zero", "error", "queues", "queue_size", 1},
                                         Case{"queue-size-huge", "error", "queues", "queue_size", 1},
                                         Case{"queue-size-odd", "error", "queues", "queue_size", 1}));

/// Faults of what this program does not use (receive offloads, queue resets): they disturb nothing.
INSTANTIATE_TEST_SUITE_P(NotMet, Fault,
                         testing::Values(Case{"offload-wrong", "ok", "", "", 0, ",uso=on"},
                                         Case{"queue-reset-stuck", "ok", "", "", 0, ",ring_reset=on"}));

TEST(FaultNotMet, AnOffloadThatWasNotNegotiatedIsPassedOverAndTheFrameArrives) {
  const Outcome outcome =
      run_upci({"net", "test", "emu:virtio-net,uso=on,fault=offload-wrong", "--frames", "100", "--observed", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.json()["received"], 100) << outcome;
  EXPECT_EQ(outcome.json()["corrupt"], 0) << outcome;
}

/// Faults that only traffic meets: an error, and nothing worse.
class RingFault : public testing::TestWithParam<std::string> {};

TEST_P(RingFault, EndsTheTestWithAnErrorAndNoHarm) {
  for (const char* mode : {"--poll", "--json"}) {
    for (const char* access : {"--observed", "--verbose"}) {
      const Outcome outcome = run_upci(
          {"net", "test", "emu:virtio-net,fault=" + GetParam(), "--frames", "100", "--idle", "300ms", mode, access});
      EXPECT_EQ(outcome.signal, 0) << outcome;
      EXPECT_TRUE(outcome.exit_code == 1 || outcome.exit_code == 3) << outcome;
      EXPECT_FALSE(outcome.left_processes);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RingFault,
                         testing::Values("used-id-out-of-range", "used-len-out-of-range", "used-len-short",
                                         "used-index-jump", "buffer-count-wrong"));

/// A fault that is added must be added here as well: test names are made of the values above.
TEST(EachFault, IsTestedHere) {
  std::string tested;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int suite = 0; suite < all.total_test_suite_count(); ++suite) {
    for (int test = 0; test < all.GetTestSuite(suite)->total_test_count(); ++test) {
      const char* value = all.GetTestSuite(suite)->GetTestInfo(test)->value_param();
      if (value != nullptr) tested += std::string("|") + value + "|";
    }
  }
  for (const auto& fault : emulation::emu::faults()) {
    const std::string name(fault.name);
    const bool alone = tested.find("|" + name + "|") != std::string::npos;
    const bool with_words = tested.find("|" + name + ",") != std::string::npos;
    const bool as_string = tested.find("|\"" + name + "\"|") != std::string::npos;
    EXPECT_TRUE(alone || with_words || as_string) << name;
  }
}

}  // namespace
}  // namespace upci::test
