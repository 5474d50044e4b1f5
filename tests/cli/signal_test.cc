// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <csignal>

#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

// A run that would last for minutes ends soon after the signal, by the signal, and leaves nothing.
void expect_ends_by(int signal, const std::vector<std::string>& arguments) {
  int asked = 0;
  const RunOptions options = {.signal = signal, .signal_when = [&] { return ++asked > 20; }};  // some 0.2 s into it
  const Outcome outcome = run_upci(arguments, options);
  EXPECT_EQ(outcome.signal, signal) << outcome;
  EXPECT_LT(outcome.took, std::chrono::seconds(20));
  EXPECT_FALSE(outcome.left_processes);
}

TEST(Signal, EndsAProbeThatWaits) {
  for (const int signal : {SIGINT, SIGTERM}) {
    expect_ends_by(signal, {"probe", "emu:virtio-net,fault=status-stuck", "--timeout", "300s"});
  }
}

TEST(Signal, EndsAProbeWhoseAccessDoesNotReturn) {
  expect_ends_by(SIGINT, {"probe", "emu:virtio-net,fault=access-stalled", "--timeout", "300s"});
}

TEST(Signal, EndsTraffic) {
  expect_ends_by(SIGINT, {"net", "test", "emu:virtio-net", "--frames", "1000000000"});
  expect_ends_by(SIGTERM, {"net", "test", "emu:virtio-net", "--frames", "1000000000", "--poll"});
}

TEST(Signal, EndsTrafficOfWhichNothingArrives) {
  expect_ends_by(SIGINT, {"net", "test", "emu:virtio-net,wire=cable:a", "--frames", "100", "--idle", "300s"});
}

}  // namespace
}  // namespace upci::test
