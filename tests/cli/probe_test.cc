// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fcntl.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/unique_fd.h"
#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

using nlohmann::json;

bool names(const json& frames, std::string_view function) {
  return std::ranges::any_of(frames, [&](const json& frame) {
    return frame["function"].is_string() && frame["function"].get<std::string>().find(function) != std::string::npos;
  });
}

TEST(Probe, EachInterfaceOfOurModelIsOk) {
  const Outcome outcome = run_upci({"probe", "emu:virtio-net", "emu:virtio-net,modern", "emu:virtio-net,legacy",
                                    "emu:virtio-net,transitional", "emu:virtio-net,transitional,driver=legacy",
                                    "emu:virtio-net,transitional,driver=modern", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome;
  const json devices = outcome.json()["devices"];
  ASSERT_EQ(devices.size(), 6U) << outcome;
  const auto has_version_1 = [&](std::size_t i) {
    const json features = devices[i]["features"];
    return std::ranges::find(features, "VERSION_1") != features.end();
  };
  for (std::size_t i = 0; i < devices.size(); ++i) {
    EXPECT_EQ(devices[i]["result"], "ok") << outcome;
    const bool legacy = i == 2 || i == 4;
    EXPECT_EQ(has_version_1(i), !legacy) << devices[i]["device"];
  }
  EXPECT_FALSE(outcome.left_processes);
}

TEST(Probe, JsonHasTheFieldsOfTheContract) {
  const Outcome outcome = run_upci({"probe", "emu:virtio-net", "--json"});
  const json document = outcome.json();
  ASSERT_TRUE(document.is_object()) << outcome;
  EXPECT_EQ(document["schema"], 1);
  const json device = document["devices"].at(0);
  EXPECT_EQ(device["device"], "emu:virtio-net");
  EXPECT_TRUE(device["driver"].is_string());
  EXPECT_TRUE(device["step"].is_string() || device["step"].is_null());
  EXPECT_TRUE(device["register"].is_string() || device["register"].is_null());
  EXPECT_GT(device["elapsed_ms"].get<double>(), 0);
  EXPECT_EQ(device["deadline_ms"], 2000);
  EXPECT_EQ(device["node"], 0);
  EXPECT_TRUE(device["cpu"].is_number_unsigned());
  EXPECT_TRUE(device["inline"].is_boolean());
  EXPECT_TRUE(device["inline_reason"].is_string() || device["inline_reason"].is_null());
  EXPECT_EQ(device["inline"].get<bool>(), device["inline_reason"].is_string());
  for (const char* list : {"features", "timeline", "backtrace", "requested_by"}) {
    EXPECT_TRUE(device[list].is_array()) << list;
  }
  EXPECT_TRUE(device["error"].is_null());
  EXPECT_TRUE(device["advice"].is_null());
}

TEST(Probe, StuckStatusEndsAtTheDeadlineWithItsEvidence) {
  const Outcome outcome = run_upci({"probe", "emu:virtio-net,fault=status-stuck", "--timeout", "300ms", "--json"});
  EXPECT_EQ(outcome.exit_code, 3) << outcome;
  const json device = outcome.json()["devices"].at(0);
  EXPECT_EQ(device["result"], "stuck");
  EXPECT_EQ(device["step"], "reset");
  EXPECT_EQ(device["register"], "device_status");
  EXPECT_EQ(device["deadline_ms"], 300);
  EXPECT_GE(device["elapsed_ms"].get<double>(), 300);
  EXPECT_LT(device["elapsed_ms"].get<double>(), 3000);
  EXPECT_TRUE(device["error"].is_string());
  EXPECT_TRUE(device["advice"].is_string());
  ASSERT_FALSE(device["timeline"].empty()) << outcome;
  EXPECT_EQ(device["timeline"].back()["value"], 0x0f) << device["timeline"];
  EXPECT_GT(device["timeline"].back()["count"], 10) << device["timeline"];
  EXPECT_TRUE(names(device["backtrace"], "wait_for_register")) << device["backtrace"].dump(1);
  EXPECT_TRUE(names(device["backtrace"], "virtio::") && names(device["backtrace"], "reset"))
      << device["backtrace"].dump(1);
  EXPECT_TRUE(names(device["requested_by"], "Session::probe")) << device["requested_by"].dump(1);
  EXPECT_FALSE(outcome.left_processes);
}

TEST(Probe, StuckDeviceDelaysNobody) {
  const Outcome outcome = run_upci({"probe", "emu:virtio-net,fault=status-stuck", "emu:virtio-net",
                                    "emu:virtio-net,legacy", "--timeout", "2s", "--json"});
  EXPECT_EQ(outcome.exit_code, 3) << outcome;
  const json devices = outcome.json()["devices"];
  ASSERT_EQ(devices.size(), 3U);
  EXPECT_EQ(devices[0]["result"], "stuck");
  EXPECT_GE(devices[0]["elapsed_ms"].get<double>(), 2000);
  for (const std::size_t i : {1U, 2U}) {
    EXPECT_EQ(devices[i]["result"], "ok") << outcome;
    EXPECT_LT(devices[i]["elapsed_ms"].get<double>(), 500) << outcome;
  }
}

TEST(Probe, ReportForPeopleShowsTheEvidence) {
  const Outcome outcome =
      run_upci({"probe", "emu:virtio-net", "emu:virtio-net,fault=status-stuck", "--timeout", "100ms"});
  EXPECT_EQ(outcome.exit_code, 3) << outcome;
  for (const char* word : {"emu:virtio-net,fault=status-stuck", "stuck", "reset", "device_status", "0xf", "100",
                           "wait_for_register", "Session::probe", "ok", "virtio_pci"}) {
    EXPECT_NE(outcome.out.find(word), std::string::npos) << "it does not say " << word << ": " << outcome;
  }
}

TEST(Probe, ObservedRingsAreOkToo) {
  const Outcome outcome = run_upci({"probe", "emu:virtio-net", "emu:virtio-net,legacy", "--observed"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

TEST(Probe, DeclinedFeatureIsNotNegotiatedAndOneInsistedOnMustBeOffered) {
  const Outcome declined = run_upci({"probe", "emu:virtio-net,features=-STATUS", "--json"});
  EXPECT_EQ(declined.exit_code, 0) << declined;
  const json features = declined.json()["devices"].at(0)["features"];
  EXPECT_EQ(std::ranges::find(features, "STATUS"), features.end()) << features;

  const Outcome missing = run_upci({"probe", "emu:virtio-net,features=+MTU", "--json"});
  EXPECT_EQ(missing.exit_code, 3) << missing;
  EXPECT_EQ(missing.json()["devices"].at(0)["result"], "rejected") << missing;
  EXPECT_EQ(run_upci({"probe", "emu:virtio-net,mtu=1500,features=+MTU"}).exit_code, 0);
}

TEST(Probe, AbsentAddressIsSaidAndHoldsUpNobody) {
  const Outcome outcome = run_upci({"probe", "fffe:ff:1f.7", "emu:virtio-net", "--json"});
  EXPECT_EQ(outcome.exit_code, 5) << outcome;
  const json devices = outcome.json()["devices"];
  ASSERT_EQ(devices.size(), 2U) << outcome;
  EXPECT_EQ(devices[0]["device"], "fffe:ff:1f.7");
  EXPECT_EQ(devices[0]["result"], "error");
  EXPECT_TRUE(devices[0]["elapsed_ms"].is_null());
  EXPECT_TRUE(devices[0]["cpu"].is_null());
  EXPECT_NE(devices[0]["error"].get<std::string>().find("fffe:ff:1f.7"), std::string::npos);
  EXPECT_NE(devices[0]["advice"].get<std::string>().find("upci list"), std::string::npos);
  EXPECT_EQ(devices[1]["result"], "ok");
}

TEST(Probe, FunctionThatIsNotBoundToVfioIsRefusedAndNotTouched) {
  const json functions = run_upci({"list", "--json"}).json()["functions"];
  const auto ours = [](const json& function) { return function["driver"] != "vfio-pci"; };
  const auto found = std::find_if(functions.begin(), functions.end(), ours);
  if (found == functions.end()) GTEST_SKIP() << "this machine shows no PCI function that is not bound to vfio-pci";
  const std::string address = (*found)["address"];
  const Outcome outcome = run_upci({"probe", address, "--json"});
  EXPECT_EQ(outcome.exit_code, 5) << outcome;
  const json device = outcome.json()["devices"].at(0);
  EXPECT_EQ(device["result"], "error");
  EXPECT_NE(device["error"].get<std::string>().find("bound to"), std::string::npos) << device;
  EXPECT_NE(device["advice"].get<std::string>().find("upci bind " + address), std::string::npos) << device;
  EXPECT_EQ(run_upci({"list", "--json"}).json()["functions"], functions);
}

TEST(Probe, WaysToAFunctionThatAreNotCarriedAreSaidSo) {
  for (const char* access : {"iommufd", "noiommu"}) {
    const Outcome outcome = run_upci({"probe", std::string("vfio:fffe:ff:1f.7,access=") + access, "--json"});
    EXPECT_EQ(outcome.exit_code, 5) << outcome;
    EXPECT_NE(outcome.json()["devices"].at(0)["error"].get<std::string>().find(access), std::string::npos) << outcome;
  }
}

TEST(Probe, AFaultOfThePlatformCanBeGivenToAnyDevice) {
  const Outcome ok = run_upci({"net", "test", "emu:virtio-net,fault=irq-lost", "--frames", "10", "--poll", "--json"});
  EXPECT_EQ(ok.exit_code, 0) << ok;
  const Outcome lost =
      run_upci({"net", "test", "emu:virtio-net,fault=irq-lost", "--frames", "10", "--idle", "100ms", "--json"});
  EXPECT_EQ(lost.exit_code, 1) << lost;
  EXPECT_EQ(lost.json()["received"], 0) << lost;
  const Outcome refused = run_upci({"probe", "emu:virtio-net,access_platform=off,fault=dma-unmapped", "--json"});
  EXPECT_EQ(refused.exit_code, 5) << refused;
  EXPECT_NE(refused.json()["devices"].at(0)["error"].get<std::string>().find("IOMMU"), std::string::npos) << refused;
}

TEST(Probe, UnixWireWithoutAListenerLacksSomethingOfTheEnvironment) {
  const Outcome outcome = run_upci({"probe", "emu:virtio-net,wire=unix:/nonexistent/socket", "--json"});
  EXPECT_EQ(outcome.exit_code, 5) << outcome;
  EXPECT_EQ(outcome.json()["devices"].at(0)["result"], "error");
}

TEST(Probe, ReportFileHoldsTheDocumentOrNothingIsProbed) {
  std::string folder = (std::filesystem::temp_directory_path() / "upci-probe-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/report.json";
  const Outcome outcome =
      run_upci({"probe", "emu:virtio-net,fault=status-stuck", "--timeout", "50ms", "--report", path});
  EXPECT_EQ(outcome.exit_code, 3) << outcome;
  std::ifstream file(path);
  const json document = json::parse(file, nullptr, false);
  ASSERT_TRUE(document.is_object());
  EXPECT_EQ(document["schema"], 1);
  EXPECT_EQ(document["devices"].at(0)["result"], "stuck");

  const Outcome refused = run_upci({"probe", "emu:virtio-net", "--json", "--report", folder + "/absent/report.json"});
  EXPECT_EQ(refused.exit_code, 5) << refused;
  EXPECT_TRUE(refused.json()["devices"].empty()) << refused;
  EXPECT_TRUE(refused.json()["error"].is_string()) << refused;
  std::filesystem::remove_all(folder);
}

TEST(Probe, FullStdoutIsAnError) {
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full);
  const Outcome outcome = run_upci({"probe", "emu:virtio-net"}, {.stdout_fd = full.get()});
  EXPECT_EQ(outcome.exit_code, 1) << outcome;
  EXPECT_NE(outcome.err.find("stdout"), std::string::npos) << outcome;
}

TEST(Probe, NodeThatTheMachineLacksIsProbedInlineAndSaidSo) {
  const Outcome outcome = run_upci({"probe", "emu:virtio-net,node=1000", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  const json device = outcome.json()["devices"].at(0);
  EXPECT_EQ(device["inline"], true) << device;
  EXPECT_FALSE(device["inline_reason"].get<std::string>().empty());
}

}  // namespace
}  // namespace upci::test
