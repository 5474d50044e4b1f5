// SPDX-License-Identifier: Apache-2.0
// upci bind and unbind, as far as they can be run on any machine: on addresses where nothing is. tools/lab binds real ones.
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

using Arguments = std::vector<std::string>;

const std::string kNowhere = "ffff:ff:1f.7";

class BindCommand : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    std::string pattern = testing::TempDir() + "/upci-bind-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    options_.environment = {"UPCI_STATE_DIR=" + folder_ + "/records"};
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  Outcome run(const Arguments& arguments) const { return run_upci(arguments, options_); }
  void record(const std::string& text) const {
    std::filesystem::create_directories(folder_ + "/records");
    std::ofstream(record_path()) << text;
  }
  std::string record_path() const { return folder_ + "/records/" + kNowhere + ".json"; }

  std::string folder_;
  RunOptions options_;
};

const char* const kRecord =
    R"({"schema": 1, "address": "ffff:ff:1f.7", "vendor": "0x1af4", "device": "0x1041", "previous_driver": "virtio-pci",
        "previous_override": null, "group": 3, "step": "bound"})";

TEST_F(BindCommand, OfAnAddressWhereNothingIsLacksSomething) {
  for (const Arguments& arguments : {Arguments{"bind", kNowhere}, Arguments{"unbind", kNowhere}}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 5) << outcome;
    EXPECT_NE(outcome.err.find(kNowhere), std::string::npos) << outcome;
    EXPECT_NE(outcome.err.find("upci list"), std::string::npos) << "and what to do: " << outcome;
    EXPECT_FALSE(std::filesystem::exists(record_path()));
    EXPECT_FALSE(outcome.left_processes);
  }
}

TEST_F(BindCommand, GivesOneJsonDocumentOnErrorToo) {
  const Outcome bind = run({"bind", kNowhere, "--json"});
  EXPECT_EQ(bind.exit_code, 5) << bind;
  EXPECT_EQ(bind.json()["schema"], 1) << bind;
  EXPECT_TRUE(bind.json()["error"].is_string()) << bind;
  const Outcome unbind = run({"unbind", kNowhere, "--json"});
  EXPECT_EQ(unbind.exit_code, 5) << unbind;
  const nlohmann::json entry = unbind.json()["restored"].at(0);
  EXPECT_EQ(entry["address"], kNowhere);
  EXPECT_TRUE(entry["driver"].is_null());
  EXPECT_EQ(entry["repaired"], false);
  EXPECT_TRUE(entry["error"].is_string());
}

TEST_F(BindCommand, UnbindOfAllWithoutRecordsHasNothingToDo) {
  const Outcome outcome = run({"unbind", "--all", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.json()["restored"], nlohmann::json::array()) << outcome;
  EXPECT_EQ(run({"unbind", "--all"}).exit_code, 0);
}

TEST_F(BindCommand, UnbindForgetsAFunctionThatHasGone) {
  record(kRecord);
  const Outcome outcome = run({"unbind", "--all", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  const nlohmann::json entry = outcome.json()["restored"].at(0);
  EXPECT_EQ(entry["address"], kNowhere);
  EXPECT_TRUE(entry["note"].is_string());
  EXPECT_TRUE(entry["error"].is_null());
  EXPECT_FALSE(std::filesystem::exists(record_path()));
}

TEST_F(BindCommand, UnbindRefusesADamagedRecordAndOneThatAnybodyCanHaveWritten) {
  record("{ nonsense");
  const Outcome damaged = run({"unbind", kNowhere});
  EXPECT_EQ(damaged.exit_code, 5) << damaged;
  EXPECT_NE(damaged.err.find(record_path()), std::string::npos) << damaged;
  record(kRecord);
  ASSERT_EQ(::chmod(record_path().c_str(), 0666), 0);
  EXPECT_EQ(run({"unbind", kNowhere}).exit_code, 5);
  EXPECT_TRUE(std::filesystem::exists(record_path()));
}

TEST_F(BindCommand, RefusesAStateFolderThatIsNoAbsolutePath) {
  options_.environment = {"UPCI_STATE_DIR=relative"};
  EXPECT_EQ(run({"bind", kNowhere}).exit_code, 2);
  EXPECT_EQ(run({"unbind", "--all"}).exit_code, 2);
}

TEST_F(BindCommand, NeedsRoot) {
  // Where the program lies, an unprivileged user may have no way in.
  const std::string copy = folder_ + "/upci";
  std::filesystem::copy_file(upci_path(), copy);
  std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  options_.prefix = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"};
  for (const Arguments& arguments : {Arguments{"bind", kNowhere}, Arguments{"unbind", kNowhere}}) {
    RunOptions options = options_;
    options.prefix.push_back(copy);
    const Outcome outcome = run_upci(arguments, options);
    EXPECT_EQ(outcome.exit_code, 5) << outcome;
    EXPECT_NE(outcome.err.find("root"), std::string::npos) << outcome;
  }
}

}  // namespace
}  // namespace upci::test
