// SPDX-License-Identifier: Apache-2.0
// The engine against what a 6.12 kernel answered to the same scripts (expected/, recorded by tools/lab --write-expected).
// Where the two are meant to differ, differences.txt has what the engine does, and why.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/oracle/runner/bundle.h"
#include "tests/oracle/runner/session.h"

namespace upci::inline UPCI_VARIANT::oracle {

namespace {

std::vector<Entry> entries_of(const std::filesystem::path& path) {
  auto entries = read_bundle(path.string());
  EXPECT_TRUE(entries.has_value()) << entries.error().message();
  return entries ? std::move(*entries) : std::vector<Entry>{};
}

const std::map<std::string, std::vector<std::string>>& differences() {
  static const auto found = [] {
    std::map<std::string, std::vector<std::string>> map;
    for (Entry& entry : entries_of(std::filesystem::path(UPCI_ORACLE) / "differences.txt")) {
      map.emplace(entry.name, std::move(entry.lines));
    }
    return map;
  }();
  return found;
}

/// All transcripts of the kernel, named FILE/SCRIPT.
std::vector<Entry> answers() {
  std::vector<std::filesystem::path> files;
  for (const auto& file : std::filesystem::directory_iterator(std::filesystem::path(UPCI_ORACLE) / "expected")) {
    if (file.path().extension() == ".txt") files.push_back(file.path());
  }
  std::ranges::sort(files);
  std::vector<Entry> all;
  for (const auto& file : files) {
    for (Entry& entry : entries_of(file))
      all.push_back({file.stem().string() + "/" + entry.name, std::move(entry.lines)});
  }
  return all;
}

class KernelOracle : public testing::TestWithParam<Entry> {};

TEST_P(KernelOracle, EngineDoesTheSame) {
  const Entry& answer = GetParam();
  const auto different = differences().find(answer.name);
  const std::vector<std::string>& wanted = different == differences().end() ? answer.lines : different->second;
  // Long: a machine that is busy with other things is no difference.
  const Patience patience{.longest = std::chrono::seconds(10)};
  auto outcome = run_in_time(answer.text(), make_engine_subject, patience, &wanted);
  ASSERT_TRUE(outcome.has_value()) << outcome.error().message();
  EXPECT_EQ(outcome->difference, "");
}

std::string test_name(const testing::TestParamInfo<Entry>& info) {
  std::string name = info.param.name;
  std::ranges::replace_if(name, [](char letter) { return letter == '-' || letter == '/'; }, '_');
  return name;
}

/// All of them, or each n-th where a run takes ten times as long (tests/oracle/CMakeLists.txt).
std::vector<Entry> asked() {
  std::vector<Entry> some;
  const std::vector<Entry> all = answers();
  for (std::size_t i = 0; i < all.size(); i += UPCI_ORACLE_EACH) some.push_back(all[i]);
  return some;
}
INSTANTIATE_TEST_SUITE_P(Scripts, KernelOracle, testing::ValuesIn(asked()), test_name);

TEST(KernelOracleLists, EveryDifferenceIsOfAScriptThatThereIs) {
  std::vector<std::string> names;
  for (const Entry& answer : answers()) names.push_back(answer.name);
  for (const auto& [name, lines] : differences()) { EXPECT_NE(std::ranges::find(names, name), names.end()) << name; }
  EXPECT_GE(names.size(), 100U);
}

TEST(KernelOracleLists, ADifferenceIsSeen) {
  const std::string text = "wq q\nwork a\n1: queue a q\n";
  auto script = parse_script(text);
  ASSERT_TRUE(script.has_value());
  auto subject = make_engine_subject();
  ASSERT_TRUE(subject.has_value());
  const std::vector<std::string> wrong = {"wq q", "work a", "> 1: queue a q = 0"};
  auto outcome = run_script(*script, **subject, {.longest = std::chrono::milliseconds(50)}, &wrong);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_NE(outcome->difference.find("expected\n> 1: queue a q = 0\nbut it is\n> 1: queue a q = 1\n  a starts"),
            std::string::npos)
      << outcome->difference;
}

TEST(KernelOracleLists, ATimerThatCouldHaveGoneOffBeforeItsTurnMakesTheRunVoid) {
  // Nothing is expected, so each line takes longer than the timer.
  const Patience slow{.quiet = std::chrono::milliseconds(30)};
  auto script = parse_script("wq q\ndwork d\n1: queue_delayed d q soon\n1: pending d\n", 20);
  ASSERT_TRUE(script.has_value());
  auto subject = make_engine_subject();
  ASSERT_TRUE(subject.has_value());
  auto outcome = run_script(*script, **subject, slow);
  ASSERT_TRUE(outcome.has_value()) << outcome.error().message();
  EXPECT_TRUE(outcome->late);
  // With what is usual it is in time, or becomes so.
  outcome = run_in_time("wq q\ndwork d\n1: queue_delayed d q soon\n1: pending d\nelapse\n", make_engine_subject, slow);
  ASSERT_TRUE(outcome.has_value()) << outcome.error().message();
  EXPECT_FALSE(outcome->late);
  const std::vector<std::string> wanted = {
      "wq q", "dwork d", "> 1: queue_delayed d q soon = 1", "> 1: pending d = 1", "> elapse", "  d starts", "  d ends"};
  EXPECT_EQ(outcome->transcript, wanted);
}

TEST(KernelOracleLists, AScriptThatIsWrongIsRefusedWithItsLine) {
  for (const char* text : {"fly\n", "wq q maximum=1\n", "wq q\n1: queue a q\n", "work a: hop\n",
                           "work a\n9: flush_work a\n", "wq q\nwork a\n1: queue_delayed a q long\n",
                           "work a\n1: gate g\n", "wq q\ndwork d\n1: queue_delayed d q late\n"}) {
    const auto script = parse_script(text);
    ASSERT_FALSE(script.has_value()) << text;
    EXPECT_EQ(script.error().code, Errc::kInvalid);
  }
}

}  // namespace

}  // namespace upci::inline UPCI_VARIANT::oracle
