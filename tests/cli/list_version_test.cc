// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <regex>

#include "base/platform.h"
#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

using nlohmann::json;

bool is_null_or_count(const json& value) { return value.is_null() || (value.is_number_integer() && value >= 0); }

TEST(List, JsonHasTheFieldsOfTheContract) {
  const Outcome outcome = run_upci({"list", "--json"});
  const json document = outcome.json();
  ASSERT_TRUE(document.is_object()) << outcome;
  EXPECT_EQ(document["schema"], 1);
  ASSERT_TRUE(document["functions"].is_array()) << outcome;
  // A container may show no PCI bus: then that is said, and there is nothing to list.
  if (outcome.exit_code == 5) {
    EXPECT_TRUE(document["functions"].empty());
    EXPECT_TRUE(document["error"].is_string());
    return;
  }
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  for (const json& function : document["functions"]) {
    EXPECT_TRUE(std::regex_match(function["address"].get<std::string>(),
                                 std::regex("[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]")));
    EXPECT_TRUE(std::regex_match(function["vendor"].get<std::string>(), std::regex("0x[0-9a-f]{4}")));
    EXPECT_TRUE(std::regex_match(function["device"].get<std::string>(), std::regex("0x[0-9a-f]{4}")));
    EXPECT_TRUE(std::regex_match(function["class"].get<std::string>(), std::regex("0x[0-9a-f]{6}")));
    EXPECT_TRUE(function["driver"].is_null() || !function["driver"].get<std::string>().empty());
    EXPECT_TRUE(is_null_or_count(function["node"]));
    EXPECT_TRUE(is_null_or_count(function["iommu_group"]));
    const json virtio = function["virtio"];
    EXPECT_TRUE(virtio.is_null() || virtio == "modern" || virtio == "legacy" || virtio == "transitional" ||
                virtio == "unknown")
        << virtio;
  }
}

TEST(List, TextHasALineForEachFunction) {
  const Outcome text = run_upci({"list"});
  const json functions = run_upci({"list", "--json"}).json()["functions"];
  for (const json& function : functions) {
    EXPECT_NE(text.out.find(function["address"].get<std::string>()), std::string::npos) << text;
  }
}

TEST(Version, JsonSaysWhatWasBuilt) {
  const Outcome outcome = run_upci({"version", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome;
  const json document = outcome.json();
  EXPECT_EQ(document["schema"], 1);
  EXPECT_TRUE(std::regex_match(document["version"].get<std::string>(), std::regex("\\d+\\.\\d+\\.\\d+")));
  EXPECT_FALSE(document["build_type"].get<std::string>().empty());
  EXPECT_FALSE(document["compiler"].get<std::string>().empty());
  for (const char* library : {"CLI11", "elfutils", "fmt", "hwloc", "libpciaccess", "nlohmann-json", "spdlog"}) {
    EXPECT_TRUE(std::regex_search(document["libraries"][library].get<std::string>(), std::regex("^\\d+\\.\\d+")))
        << library;
  }
  EXPECT_EQ(document["tiers"]["framework_waits"], true);
  EXPECT_EQ(document["tiers"]["scheduler_records"], platform::SwitchWatch::self_test().has_value());
  EXPECT_EQ(document["tiers"]["schedstat_sampling"], true);
  EXPECT_NE(run_upci({"version"}).out.find(document["version"].get<std::string>()), std::string::npos);
}

}  // namespace
}  // namespace upci::test
