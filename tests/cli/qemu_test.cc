// SPDX-License-Identifier: Apache-2.0
// The program over QEMU's own models.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

using nlohmann::json;

const std::string kModern = "qemu:virtio-net-pci,disable-legacy=on";
const std::string kLegacy = "qemu:virtio-net-pci,disable-modern=on,disable-legacy=off";
const std::string kTransitional = "qemu:virtio-net-pci,disable-legacy=off";

TEST(Qemu, ProbesEachInterface) {
  const Outcome outcome = run_upci({"probe", kModern, kLegacy, kTransitional + ",driver=legacy",
                                    kTransitional + ",driver=modern", "qemu:virtio-net-pci", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  for (const json& device : outcome.json()["devices"]) EXPECT_EQ(device["result"], "ok") << outcome;
  EXPECT_FALSE(outcome.left_processes);
}

TEST(Qemu, ProbesAsAnOrdinaryUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "all tests run as an ordinary user here";
  // Where that user can read it, whatever the modes of the build folder are.
  std::string folder = (std::filesystem::temp_directory_path() / "upci-user-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
  std::filesystem::copy_file(upci_path(), folder + "/upci");
  ASSERT_EQ(::chmod((folder + "/upci").c_str(), 0755), 0);
  const Outcome outcome = run_upci(
      {"probe", kModern, kLegacy, "--json"},
      {.prefix = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", folder + "/upci"}});
  std::filesystem::remove_all(folder);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  for (const json& device : outcome.json()["devices"]) EXPECT_EQ(device["result"], "ok") << outcome;
  EXPECT_FALSE(outcome.left_processes);
}

TEST(Qemu, StuckNeighbourDelaysNobody) {
  const Outcome outcome =
      run_upci({"probe", "emu:virtio-net,fault=status-stuck", kModern, kLegacy, "--timeout", "2s", "--json"});
  EXPECT_EQ(outcome.exit_code, 3) << outcome;
  const json devices = outcome.json()["devices"];
  EXPECT_EQ(devices[0]["result"], "stuck");
  for (const std::size_t i : {1U, 2U}) {
    EXPECT_EQ(devices[i]["result"], "ok") << outcome;
    EXPECT_LT(devices[i]["elapsed_ms"].get<double>(), 500) << outcome;
  }
}

class QemuTraffic : public testing::TestWithParam<std::string> {};

TEST_P(QemuTraffic, PassesAllFramesByInterruptAndPolled) {
  for (const bool poll : {false, true}) {
    std::vector<std::string> arguments = {"net", "test", GetParam(), "--frames", "10000", "--json"};
    if (poll) arguments.emplace_back("--poll");
    const Outcome outcome = run_upci(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    const json run = outcome.json();
    EXPECT_EQ(run["sent"], 10'000) << outcome;
    EXPECT_EQ(run["received"], 10'000) << outcome;
    for (const char* bad : {"lost", "corrupt", "duplicated"}) EXPECT_EQ(run[bad], 0) << outcome;
    if (!poll) {
      EXPECT_GT(run["interrupts"], 0) << outcome;
      EXPECT_LE(run["wakeups"].get<double>(), 1.05 * run["interrupts"].get<double>()) << outcome;
    }
    EXPECT_FALSE(outcome.left_processes);
  }
}

INSTANTIATE_TEST_SUITE_P(Interfaces, QemuTraffic,
                         testing::Values(kModern, kLegacy, kTransitional + ",driver=legacy",
                                         kTransitional + ",driver=modern"));

TEST(Qemu, TalksToOurModelOverACable) {
  const Outcome outcome = run_upci({"net", "test", kModern + ",wire=cable:a", "emu:virtio-net,legacy,wire=cable:a",
                                    "--frames", "1000", "--size", "1514", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.json()["received"], 2000) << outcome;
}

TEST(Qemu, WithoutQemuSaysWhatToInstallAndHoldsUpNobody) {
  const Outcome outcome =
      run_upci({"probe", kModern, "emu:virtio-net", "--json"}, {.environment = {"PATH=/nonexistent"}});
  EXPECT_EQ(outcome.exit_code, 5) << outcome;
  const json devices = outcome.json()["devices"];
  EXPECT_EQ(devices[0]["result"], "error") << outcome;
  EXPECT_NE(devices[0]["error"].get<std::string>().find("qemu-system-x86_64"), std::string::npos) << outcome;
  EXPECT_TRUE(devices[0]["advice"].is_string()) << outcome;
  EXPECT_EQ(devices[1]["result"], "ok") << outcome;
}

TEST(Qemu, ModelPropertyAndValueAreCheckedAgainstQemu) {
  for (const char* device :
       {"qemu:nonsense", "qemu:virtio-net-pci,nonsense=on", "qemu:virtio-net-pci,disable-legacy=maybe"}) {
    const Outcome outcome = run_upci({"probe", device, "--json"});
    EXPECT_EQ(outcome.exit_code, 2) << device << ": " << outcome;
    EXPECT_EQ(outcome.json()["devices"].at(0)["result"], "error") << device << ": " << outcome;
    EXPECT_TRUE(outcome.json()["devices"].at(0)["error"].is_string()) << device << ": " << outcome;
    EXPECT_FALSE(outcome.left_processes) << device;
  }
}

TEST(Qemu, CardWithoutMsixWorksPolledAndByItsLine) {
  for (const std::string card :
       {"qemu:virtio-net-pci,disable-legacy=on,vectors=0", "qemu:virtio-net-pci,disable-modern=on,vectors=0"}) {
    const Outcome polled = run_upci({"net", "test", card, "--frames", "100", "--poll", "--json"});
    EXPECT_EQ(polled.exit_code, 0) << polled;
    EXPECT_EQ(polled.json()["received"], 100) << polled;
    const Outcome line = run_upci({"net", "test", card, "--frames", "1000", "--json"});
    EXPECT_EQ(line.exit_code, 0) << line;
    EXPECT_EQ(line.json()["received"], 1000) << line;
    EXPECT_GT(line.json()["interrupts"].get<int>(), 0) << line;
  }
}

TEST(Qemu, DeviceWithoutADriverIsSaidSo) {
  const Outcome outcome = run_upci({"probe", "qemu:pci-testdev", "qemu:virtio-balloon-pci", "--json"});
  EXPECT_EQ(outcome.exit_code, 4) << outcome;
  for (const json& device : outcome.json()["devices"]) EXPECT_EQ(device["result"], "no_driver") << outcome;
  EXPECT_FALSE(outcome.left_processes);
}

TEST(Qemu, SignalEndsItAndItsQemus) {
  int asked = 0;
  const Outcome outcome = run_upci({"net", "test", kModern, "--frames", "1000000000"},
                                   {.signal = SIGTERM, .signal_when = [&] { return ++asked > 100; }});
  EXPECT_EQ(outcome.signal, SIGTERM) << outcome;
  EXPECT_FALSE(outcome.left_processes);
}

TEST(Qemu, SignalWhileQemuStartsLeavesNone) {
  for (const int after : {1, 5, 10, 20}) {
    int asked = 0;
    const Outcome outcome =
        run_upci({"probe", kModern, kLegacy}, {.signal = SIGINT, .signal_when = [&] { return ++asked > after; }});
    EXPECT_FALSE(outcome.left_processes) << after;
  }
}

}  // namespace
}  // namespace upci::test
