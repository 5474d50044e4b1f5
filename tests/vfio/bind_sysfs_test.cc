// SPDX-License-Identifier: Apache-2.0
// The real boundary, on files of a temporary folder. A FIFO without a partner stands for an attribute of a device that the
// kernel holds: its open does not return.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "base/process.h"
#include "vfio/bind/attribute.h"
#include "vfio/bind/sysfs.h"

namespace upci::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using vfio::bind::make_sysfs;

class BindSysfs : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/upci-bind-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }
  std::string fifo() const {
    const std::string path = folder_ + "/fifo";
    EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
    return path;
  }
  static std::string content(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  /// Waits until the thread has made a child.
  static bool has_child(pid_t process, pid_t thread) {
    const std::string list = "/proc/" + std::to_string(process) + "/task/" + std::to_string(thread) + "/children";
    const Deadline deadline = Deadline::after(30s);
    while (content(list).empty()) {
      if (deadline.expired()) return false;
      platform::this_thread::yield();
    }
    return true;
  }

  std::string folder_;
  const std::unique_ptr<vfio::bind::Sysfs> sysfs_ = make_sysfs();
};

TEST_F(BindSysfs, AttributesAreReadAndWrittenByAChildThatIsReaped) {
  const std::string path = file("driver_override", "(null)\n");
  EXPECT_EQ(sysfs_->read_attribute(path, Deadline::after(10s)).value(), "(null)\n");
  ASSERT_TRUE(sysfs_->write_attribute(path, "vfio-pci", Deadline::after(10s)));
  EXPECT_TRUE(content(path).starts_with("vfio-pci"));
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(BindSysfs, AnAttributeThatIsRefusedGivesTheErrno) {
  const auto missing = sysfs_->write_attribute(folder_ + "/none", "x", Deadline::after(10s));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().sys_errno, ENOENT);
  EXPECT_THAT(missing.error().what, HasSubstr("open"));
  const auto full = sysfs_->write_attribute("/dev/full", "x", Deadline::after(10s));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().sys_errno, ENOSPC);
  EXPECT_THAT(full.error().what, HasSubstr("/dev/full"));
  EXPECT_EQ(sysfs_->read_attribute(folder_, Deadline::after(10s)).error().sys_errno, EISDIR);
}

TEST_F(BindSysfs, AnAttributeThatDoesNotReturnIsGivenUpAtTheDeadline) {
  const std::string path = fifo();
  const auto begin = platform::Clock::now();
  const auto written = sysfs_->write_attribute(path, "x", Deadline::after(100ms));
  const auto took = platform::Clock::now() - begin;
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, Errc::kTimeout);
  EXPECT_THAT(written.error().what, HasSubstr(path));
  EXPECT_FALSE(written.error().advice.empty());
  EXPECT_GE(took, 100ms);
  EXPECT_LT(took, 10s);
  EXPECT_EQ(sysfs_->read_attribute(path, Deadline::after(1ms)).error().code, Errc::kTimeout);
}

TEST_F(BindSysfs, AChildThatIsKilledHasReadNothing) {
  const std::string path = fifo();
  Result<std::string> got;
  auto reader =
      platform::Thread::create({.name = "reader"}, [&] { got = sysfs_->read_attribute(path, Deadline::after(60s)); });
  ASSERT_TRUE(reader);
  ASSERT_TRUE(has_child(::getpid(), reader->id()));
  const std::string thread = std::to_string(reader->id());
  ::kill(std::stoi(content("/proc/self/task/" + thread + "/children")), SIGKILL);
  reader->join();
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Errc::kSystem);
  EXPECT_THAT(got.error().what, HasSubstr("killed"));
}

TEST_F(BindSysfs, TheChildHoldsNothingOfOurs) {
  // Somebody who reads what this process prints until its end must not wait for a child that the kernel holds.
  auto ours = Pipe::create();
  ASSERT_TRUE(ours);
  const std::string path = fifo();
  auto writer = platform::Thread::create(
      {.name = "writer"}, [&] { EXPECT_TRUE(sysfs_->write_attribute(path, "late", Deadline::after(60s))); });
  ASSERT_TRUE(writer);
  ASSERT_TRUE(has_child(::getpid(), writer->id()));
  ours->write.reset();
  pollfd ended = {.fd = ours->read.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&ended, 1, 10'000), 1) << "the child has the other end";
  EXPECT_EQ(content(path), "late");
  writer->join();
}

TEST_F(BindSysfs, ALockedFolderIsSaidToBeAndByWhom) {
  auto lock = sysfs_->lock_folder(folder_ + "/a/b", Deadline::after(1s));
  ASSERT_TRUE(lock) << lock.error().message();
  const auto other = make_sysfs();
  const auto refused = other->lock_folder(folder_ + "/a/b", Deadline::after(50ms));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  EXPECT_THAT(refused.error().what, HasSubstr(std::to_string(::getpid())));
  lock->reset();
  EXPECT_TRUE(other->lock_folder(folder_ + "/a/b", Deadline::after(50ms)));
}

TEST_F(BindSysfs, TheLockOfAGivenUpWriteIsFreeAgain) {
  const std::string path = fifo();
  {
    const auto lock = sysfs_->lock_folder(folder_, Deadline::after(1s));
    ASSERT_TRUE(lock);
    ASSERT_FALSE(sysfs_->write_attribute(path, "x", Deadline::after(20ms)));
  }
  EXPECT_TRUE(make_sysfs()->lock_folder(folder_, Deadline::after(50ms)));
}

TEST_F(BindSysfs, TheLockOfAKilledProcessStaysUntilItsWriteIsDone) {
  const std::string path = fifo();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto process = make_sysfs();
    const auto lock = process->lock_folder(folder_, Deadline::after(1s));
    (void)process->write_attribute(path, "late", Deadline::after(60s));
    ::_exit(0);
  }
  // The lock was taken before the fork: from then on it has two holders.
  ASSERT_TRUE(has_child(pid, pid));
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
  const auto refused = sysfs_->lock_folder(folder_, Deadline::after(50ms));
  ASSERT_FALSE(refused) << "the write of the killed process can still come";
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  EXPECT_EQ(content(path), "late");  // lets the write go on
  EXPECT_TRUE(sysfs_->lock_folder(folder_, Deadline::after(10s)));
  ::waitpid(-1, nullptr, 0);
}

TEST_F(BindSysfs, AFileIsReplacedAsAWhole) {
  const std::string path = folder_ + "/record.json";
  ASSERT_TRUE(sysfs_->write_file(path, "first\n"));
  file("record.json.new", "left by a crash");
  ASSERT_TRUE(sysfs_->write_file(path, "second\n"));
  EXPECT_EQ(sysfs_->read_own_file(path).value(), "second\n");
  EXPECT_THAT(sysfs_->list(folder_).value(), ElementsAre("record.json"));
  ASSERT_TRUE(sysfs_->remove_file(path));
  EXPECT_EQ(sysfs_->read_own_file(path).error().sys_errno, ENOENT);
  EXPECT_EQ(sysfs_->remove_file(path).error().sys_errno, ENOENT);
}

TEST_F(BindSysfs, AFileThatAnybodyCanHaveWrittenIsNotTrusted) {
  const std::string path = file("record.json", "{}");
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  EXPECT_EQ(sysfs_->read_own_file(path).error().code, Errc::kUnavailable);
  ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  EXPECT_TRUE(sysfs_->read_own_file(path));
  EXPECT_EQ(sysfs_->read_own_file(fifo()).error().code, Errc::kUnavailable) << "and a FIFO is not waited for";
  ASSERT_EQ(::symlink(path.c_str(), (folder_ + "/link").c_str()), 0);
  EXPECT_EQ(sysfs_->read_own_file(folder_ + "/link").error().sys_errno, ELOOP);
}

TEST_F(BindSysfs, PathsAndLinksAreAsTheSystemHasThem) {
  const std::string path = file("target", "0x1af4\n");
  ASSERT_EQ(::symlink("target", (folder_ + "/link").c_str()), 0);
  EXPECT_TRUE(sysfs_->exists(path).value());
  EXPECT_FALSE(sysfs_->exists(folder_ + "/none").value());
  EXPECT_FALSE(sysfs_->exists(path + "/below").value());
  EXPECT_EQ(sysfs_->read(path, 4).value(), "0x1a");
  EXPECT_EQ(sysfs_->read_link(folder_ + "/link").value(), "target");
  EXPECT_EQ(sysfs_->read_link(path).error().sys_errno, EINVAL);
  EXPECT_EQ(sysfs_->real_path(folder_ + "/link").value(), std::filesystem::canonical(path).string());
  EXPECT_EQ(sysfs_->block_number(path).value(), "");
  EXPECT_EQ(sysfs_->list(folder_ + "/none").error().sys_errno, ENOENT);
}

}  // namespace
}  // namespace upci::test
