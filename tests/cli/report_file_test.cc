// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/report_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace upci::tool {
namespace {

namespace fs = std::filesystem;

class ReportFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (fs::temp_directory_path() / "upci-report-XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path() const { return folder_ / "report.json"; }
  static std::string content(const std::string& file) {
    std::ifstream stream(file);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  std::ptrdiff_t files() const { return std::distance(fs::directory_iterator(folder_), {}); }

  fs::path folder_;
};

TEST_F(ReportFileTest, CommitPutsTheWholeTextInItsPlace) {
  std::ofstream(path()) << "old";
  auto file = ReportFile::open(path());
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(content(path()), "old") << "nothing changes before commit()";
  ASSERT_TRUE(file->commit("new\n"));
  EXPECT_EQ(content(path()), "new\n");
  EXPECT_EQ(files(), 1);
}

TEST_F(ReportFileTest, WithoutCommitNothingIsLeft) {
  { ASSERT_TRUE(ReportFile::open(path())); }
  EXPECT_EQ(files(), 0);
}

TEST_F(ReportFileTest, NewFileHasTheModeThatTheUserAskedFor) {
  const mode_t before = ::umask(0027);
  auto file = ReportFile::open(path());
  ::umask(before);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->commit("x"));
  struct stat info = {};
  ASSERT_EQ(::stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640U);
}

TEST_F(ReportFileTest, SaysAtOnceWhatCannotBeWritten) {
  for (const std::string& bad :
       {folder_.string(), (folder_ / "absent" / "report.json").string(), std::string("/proc/x")}) {
    const auto file = ReportFile::open(bad);
    ASSERT_FALSE(file) << bad;
    EXPECT_EQ(file.error().code, Errc::kUnavailable) << bad;
    EXPECT_FALSE(file.error().advice.empty()) << bad;
  }
}

TEST_F(ReportFileTest, PipeIsWrittenStraight) {
  auto file = ReportFile::open("/dev/null");
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->commit("x"));
  EXPECT_TRUE(fs::is_character_file("/dev/null")) << "it must not be replaced";
}

}  // namespace
}  // namespace upci::tool
