// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

using nlohmann::json;
using Arguments = std::vector<std::string>;

/// The counters of `upci net test ... --json`, after checking what holds for each good run.
json good_run(Arguments arguments, std::uint64_t frames) {
  arguments.insert(arguments.begin(), {"net", "test"});
  arguments.insert(arguments.end(), {"--json"});
  const Outcome outcome = run_upci(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  json document = outcome.json();
  EXPECT_EQ(document["schema"], 1) << outcome;
  EXPECT_EQ(document["sent"], frames) << outcome;
  EXPECT_EQ(document["received"], frames) << outcome;
  for (const char* bad : {"lost", "corrupt", "duplicated"}) EXPECT_EQ(document[bad], 0) << outcome;
  EXPECT_GT(document["seconds"].get<double>(), 0);
  EXPECT_FALSE(outcome.left_processes);
  return document;
}

class EachModel : public testing::TestWithParam<std::string> {};

TEST_P(EachModel, PassesAllFramesByInterruptWithOneWakeUpEach) {
  for (const char* access : {"--frames", "--observed"}) {
    Arguments arguments = {GetParam(), "--frames", "10000"};
    if (std::string_view(access) == "--observed") arguments.emplace_back(access);
    const json run = good_run(arguments, 10'000);
    EXPECT_GT(run["interrupts"], 0) << run;
    EXPECT_GT(run["bottom_halves"], 0) << run;
    EXPECT_FALSE(run["cpus"].empty()) << run;
    EXPECT_LE(run["wakeups"].get<double>(), 1.05 * run["interrupts"].get<double>()) << run;
  }
}

TEST_P(EachModel, PassesAllFramesPolled) {
  for (const char* size : {"60", "64", "1514"})
    good_run({GetParam(), "--frames", "10000", "--poll", "--size", size}, 10'000);
  good_run({GetParam(), "--frames", "10000", "--poll", "--observed"}, 10'000);
}

INSTANTIATE_TEST_SUITE_P(Emu, EachModel,
                         testing::Values("emu:virtio-net", "emu:virtio-net,legacy", "emu:virtio-net,transitional",
                                         "emu:virtio-net,transitional,driver=legacy"));

TEST(NetTest, TwoCardsOnACableSendEachWay) {
  good_run({"emu:virtio-net,wire=cable:a", "emu:virtio-net,legacy,wire=cable:a", "--frames", "3000"}, 6000);
  good_run({"emu:virtio-net,wire=cable:a", "emu:virtio-net,legacy,wire=cable:a", "--frames", "3000", "--poll"}, 6000);
}

TEST(NetTest, TwoCardsWithoutAWireAreConnectedToEachOther) {
  good_run({"emu:virtio-net", "emu:virtio-net", "--frames", "1000"}, 2000);
}

TEST(NetTest, OneFrameOfEachOddSize) {
  for (const char* size : {"60", "61", "65", "511", "1513", "1514"}) {
    good_run({"emu:virtio-net", "--frames", "1", "--size", size}, 1);
  }
}

TEST(NetTest, FramesOfARangeOfSizes) {
  const json run = good_run({"emu:virtio-net,mtu=9000", "--frames", "3000", "--size", "60-9000", "--observed"}, 3000);
  EXPECT_EQ(run["size"], 60) << run;
  EXPECT_EQ(run["longest"], 9000) << run;
  EXPECT_GT(run["merged_frames"], 1000) << run;
  EXPECT_LT(run["merged_frames"], 3000) << run;
}

TEST(NetTest, FrameThatDoesNotFitTheCardIsAnError) {
  const Outcome outcome =
      run_upci({"net", "test", "emu:virtio-net,mtu=100", "--frames", "1", "--size", "1000", "--json"});
  EXPECT_EQ(outcome.exit_code, 1) << outcome;
  EXPECT_EQ(outcome.json()["sent"], 0) << outcome;
  EXPECT_NE(outcome.json()["error"].get<std::string>().find("114"), std::string::npos) << outcome;
}

TEST(NetTest, OneEndOfACableLosesAllAndSaysSo) {
  const Outcome outcome =
      run_upci({"net", "test", "emu:virtio-net,wire=cable:a", "--frames", "100", "--idle", "100ms", "--json"});
  EXPECT_EQ(outcome.exit_code, 1) << outcome;
  const json document = outcome.json();
  EXPECT_GT(document["lost"], 0) << outcome;
  EXPECT_EQ(document["lost"], document["sent"]) << outcome;
  EXPECT_NE(outcome.err.find("cable a"), std::string::npos) << outcome;
}

TEST(NetTest, CardWithoutMsixUsesItsInterruptLine) {
  good_run({"emu:virtio-net,vectors=0", "--frames", "1000", "--poll"}, 1000);
  const json document = good_run({"emu:virtio-net,vectors=0", "--frames", "1000"}, 1000);
  EXPECT_EQ(document["cpus"].size(), 1U);
  EXPECT_GT(document["interrupts"], 0);
}

TEST(NetTest, AFunctionOfTheMachineAndAnEmulatedCardDoNotMeetByThemselves) {
  const Outcome outcome = run_upci({"net", "test", "fffe:ff:1f.7", "emu:virtio-net", "--frames", "1"});
  EXPECT_EQ(outcome.exit_code, 2) << outcome;
  EXPECT_NE(outcome.err.find("wire="), std::string::npos) << outcome;
  // Two functions are taken as they are cabled: what is wrong here is that they are not there.
  EXPECT_EQ(run_upci({"net", "test", "fffe:ff:1f.6", "fffe:ff:1f.7", "--frames", "1"}).exit_code, 5);
}

TEST(NetTest, AbsentCardEndsItBeforeAnyFrame) {
  const Outcome outcome = run_upci({"net", "test", "fffe:ff:1f.7", "--frames", "1", "--json"});
  EXPECT_EQ(outcome.exit_code, 5) << outcome;
  EXPECT_EQ(outcome.json()["sent"], 0);
}

TEST(NetTest, StuckCardEndsItBeforeAnyFrame) {
  const Outcome outcome =
      run_upci({"net", "test", "emu:virtio-net,fault=status-stuck", "--frames", "10", "--timeout", "100ms", "--json"});
  EXPECT_EQ(outcome.exit_code, 3) << outcome;
  const json document = outcome.json();
  EXPECT_EQ(document["sent"], 0) << outcome;
  EXPECT_EQ(document["devices"].at(0)["result"], "stuck") << outcome;
}

TEST(NetTest, TextNamesTheCounts) {
  const Outcome outcome = run_upci({"net", "test", "emu:virtio-net", "--frames", "1000"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  for (const char* words : {"1000 sent", "1000 received", "0 lost", "0 corrupt", "0 duplicated", "interrupts"}) {
    EXPECT_NE(outcome.out.find(words), std::string::npos) << words << ": " << outcome;
  }
}

}  // namespace
}  // namespace upci::test
