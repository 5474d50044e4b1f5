// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

namespace upci {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const std::string kChild = UPCI_TEST_CHILD;

Deadline patience() { return Deadline::after(seconds(20)); }

std::string read_all(const UniqueFd& fd) {
  std::string text;
  char buffer[256];
  for (ssize_t got = 0; (got = ::read(fd.get(), buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

// What the child writes to its standard output until it ends.
std::string output_of(ChildProcess::Spec spec) {
  Pipe pipe = Pipe::create().value();
  spec.stdout_fd = pipe.write.get();
  ChildProcess child = ChildProcess::spawn(std::move(spec)).value();
  pipe.write.reset();
  std::string text = read_all(pipe.read);
  EXPECT_TRUE(child.wait(patience()).value().ok());
  return text;
}

bool exists(pid_t pid) { return ::kill(pid, 0) == 0; }

TEST(ChildProcess, AMissingProgramIsUnavailableAndNamed) {
  const Result<ChildProcess> by_name = ChildProcess::spawn({.argv = {"no-such-program-upci"}});
  ASSERT_FALSE(by_name);
  EXPECT_EQ(by_name.error().code, Errc::kUnavailable);
  EXPECT_EQ(by_name.error().message(), "cannot find the program 'no-such-program-upci' in PATH");
  const Result<ChildProcess> by_path = ChildProcess::spawn({.argv = {"/no/such/program"}});
  ASSERT_FALSE(by_path);
  EXPECT_EQ(by_path.error().code, Errc::kUnavailable);
  EXPECT_EQ(by_path.error().message(), "cannot execute '/no/such/program': No such file or directory");
  const Result<ChildProcess> no_program = ChildProcess::spawn({.argv = {"/etc/passwd"}});
  ASSERT_FALSE(no_program);
  EXPECT_EQ(no_program.error().sys_errno, EACCES);
  EXPECT_EQ(ChildProcess::spawn({}).error().code, Errc::kInvalid);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "no zombie of a failed start";
}

TEST(ChildProcess, GivesItsExitCode) {
  ChildProcess child = ChildProcess::spawn({.argv = {kChild, "exit", "42"}}).value();
  const Result<ExitStatus> status = child.wait(patience());
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 42);
  EXPECT_EQ(status->text(), "exited with code 42");
  EXPECT_FALSE(child.running());
  EXPECT_EQ(child.wait(Deadline::after(seconds(0)))->code, 42) << "the answer stays";
  EXPECT_FALSE(exists(child.pid())) << "reaped";
}

TEST(ChildProcess, IsFoundInPath) {
  ChildProcess child = ChildProcess::spawn({.argv = {"true"}}).value();
  EXPECT_TRUE(child.wait(patience())->ok());
}

TEST(ChildProcess, AWaitTimesOutNeverEarly) {
  ChildProcess child = ChildProcess::spawn({.argv = {kChild, "sleep"}}).value();
  const Deadline deadline = Deadline::after(milliseconds(5));
  const Result<ExitStatus> status = child.wait(deadline);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Errc::kTimeout);
  EXPECT_TRUE(deadline.expired());
  EXPECT_TRUE(child.running());
}

TEST(ChildProcess, TerminateAsksFirst) {
  ChildProcess child = ChildProcess::spawn({.argv = {kChild, "sleep"}}).value();
  const Result<ExitStatus> status = child.terminate(patience());
  ASSERT_TRUE(status);
  EXPECT_EQ(status->signal, SIGTERM);
  EXPECT_EQ(status->text(), "was killed by signal 15 (Terminated)");
}

TEST(ChildProcess, TerminateKillsWhatDoesNotListen) {
  Pipe pipe = Pipe::create().value();
  ChildProcess child = ChildProcess::spawn({.argv = {kChild, "stubborn"}, .stdout_fd = pipe.write.get()}).value();
  char ready = 0;
  ASSERT_EQ(::read(pipe.read.get(), &ready, 1), 1);
  const Result<ExitStatus> status = child.terminate(Deadline::after(milliseconds(20)));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->signal, SIGKILL);
}

TEST(ChildProcess, TheDestructorKillsAndReaps) {
  pid_t pid = 0;
  {
    ChildProcess child = ChildProcess::spawn({.argv = {kChild, "sleep"}}).value();
    pid = child.pid();
    EXPECT_TRUE(exists(pid));
    const ChildProcess moved = std::move(child);
    EXPECT_TRUE(exists(pid));
  }
  EXPECT_FALSE(exists(pid));
}

TEST(ChildProcess, DoesNotDieWithTheThreadThatAskedForIt) {
  Result<ChildProcess> child = fail(Errc::kState, "not spawned");
  platform::Thread::create({}, [&] { child = ChildProcess::spawn({.argv = {kChild, "sleep"}}); }).value().join();
  ASSERT_TRUE(child);
  const Result<ExitStatus> early = child->wait(Deadline::after(milliseconds(50)));
  EXPECT_FALSE(early) << early->text();
}

TEST(ChildProcess, InheritsOnlyWhatItIsGiven) {
  // Not even one that somebody forgot to mark.
  const UniqueFd forgotten(::open("/dev/null", O_RDONLY));
  const UniqueFd given(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(output_of({.argv = {kChild, "fds"}}), "0\n1\n2\n");
  EXPECT_EQ(output_of({.argv = {kChild, "fds"}, .fds = {{.fd = given.get(), .as = 9}}}), "0\n1\n2\n9\n");
  EXPECT_EQ(output_of({.argv = {kChild, "fds"}, .fds = {{.fd = given.get()}}}),
            "0\n1\n2\n" + std::to_string(given.get()) + "\n");
}

TEST(ChildProcess, NumbersMayBeExchangedAmongInheritedDescriptors) {
  Pipe a = Pipe::create().value();
  Pipe b = Pipe::create().value();
  ASSERT_EQ(::write(a.write.get(), "x\n", 2), 2);
  ASSERT_EQ(::write(b.write.get(), "x\nx\n", 4), 4);
  a.write.reset();
  b.write.reset();
  const int first = a.read.get();
  const int second = b.read.get();
  ChildProcess child = ChildProcess::spawn({.argv = {kChild, "sum", std::to_string(first)},
                                            .fds = {{.fd = first, .as = second}, {.fd = second, .as = first}}})
                           .value();
  EXPECT_EQ(child.wait(patience())->code, 2) << "under the first number it reads the second pipe";
}

TEST(ChildProcess, RefusesDescriptorsThatCannotBe) {
  EXPECT_EQ(ChildProcess::spawn({.argv = {kChild}, .fds = {{.fd = 0, .as = 2}}}).error().code, Errc::kInvalid);
  EXPECT_EQ(ChildProcess::spawn({.argv = {kChild}, .fds = {{.fd = -1, .as = 5}}}).error().code, Errc::kInvalid);
  EXPECT_EQ(ChildProcess::spawn({.argv = {kChild}, .fds = {{.fd = 0, .as = 5}, {.fd = 1, .as = 5}}}).error().code,
            Errc::kInvalid);
  EXPECT_EQ(ChildProcess::spawn({.argv = {kChild}, .fds = {{.fd = 999, .as = 5}}}).error().sys_errno, EBADF);
}

TEST(ChildProcess, ItsStandardErrorCanBeCaptured) {
  Pipe pipe = Pipe::create().value();
  ChildProcess child =
      ChildProcess::spawn({.argv = {kChild, "say", "no such device"}, .stderr_fd = pipe.write.get()}).value();
  pipe.write.reset();
  EXPECT_EQ(read_all(pipe.read), "no such device");
  EXPECT_TRUE(child.wait(patience())->ok());
}

TEST(ChildProcess, ItsEnvironmentIsOursWithChanges) {
  ASSERT_EQ(::setenv("UPCI_TEST_A", "outer", 1), 0);
  EXPECT_EQ(output_of({.argv = {kChild, "env", "UPCI_TEST_A"}}), "outer");
  EXPECT_EQ(output_of({.argv = {kChild, "env", "UPCI_TEST_A"}, .environment = {"UPCI_TEST_A=inner"}}), "inner");
  EXPECT_EQ(output_of({.argv = {kChild, "env", "UPCI_TEST_AB"}, .environment = {"UPCI_TEST_A=inner"}}), "(none)");
}

TEST(ChildProcess, ManyAtOnceLeaveNoZombieAndNoDescriptor) {
  const auto open_fds = [] {
    int count = 0;
    for (int fd = 0; fd < 1024; ++fd) count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    return count;
  };
  const int before = open_fds();
  {
    std::vector<ChildProcess> children;
    for (int i = 0; i < 10; ++i) {
      children.push_back(ChildProcess::spawn({.argv = {kChild, i % 2 == 0 ? "sleep" : "exit", "0"}}).value());
    }
  }
  EXPECT_EQ(open_fds(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

}  // namespace
}  // namespace upci
