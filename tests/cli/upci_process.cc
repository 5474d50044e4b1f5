// SPDX-License-Identifier: Apache-2.0
#include "tests/cli/upci_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "base/process.h"

namespace upci::test {
namespace {

constexpr auto kLongest = std::chrono::seconds(60);

/// Takes what is there to be read; false at the end of the stream.
bool read_some(int fd, std::string& into) {
  std::array<char, 16384> buffer;
  const ssize_t n = ::read(fd, buffer.data(), buffer.size());
  if (n > 0) into.append(buffer.data(), static_cast<std::size_t>(n));
  return n > 0 || (n < 0 && errno == EINTR);
}

/// This process is told of orphans (PR_SET_CHILD_SUBREAPER): whoever is still its child was left by the program.
bool reap_leftovers() {
  bool any = false;
  for (;;) {
    const pid_t pid = ::waitpid(-1, nullptr, WNOHANG);
    if (pid < 0) return any;  // ECHILD: nobody is left
    any = true;
    if (pid == 0) {  // somebody still runs, and is to end now that the program has
      ::waitpid(-1, nullptr, 0);
    }
  }
}

}  // namespace

std::ostream& operator<<(std::ostream& stream, const Outcome& outcome) {
  return stream << "exit code " << outcome.exit_code << ", signal " << outcome.signal << ", stdout:\n"
                << outcome.out << "stderr:\n"
                << outcome.err;
}

std::string upci_path() {
  const char* path = std::getenv("UPCI_BIN");
  return path == nullptr ? "build/bin/upci" : path;
}

Outcome run_upci(const std::vector<std::string>& arguments, const RunOptions& options) {
  Outcome outcome;
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  auto out = Pipe::create();
  auto err = Pipe::create();
  if (!out || !err) {
    ADD_FAILURE() << "no pipe";
    return outcome;
  }
  ChildProcess::Spec spec;
  spec.argv = options.prefix;
  // A prefix may go to a program that it copied; then it names it itself.
  if (options.prefix.empty()) spec.argv.push_back(upci_path());
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.environment = options.environment;
  spec.stdout_fd = options.stdout_fd >= 0 ? options.stdout_fd : out->write.get();
  spec.stderr_fd = err->write.get();
  const auto start = std::chrono::steady_clock::now();
  auto child = ChildProcess::spawn(spec);
  if (!child) {
    ADD_FAILURE() << child.error().message();
    return outcome;
  }
  out->write.reset();
  err->write.reset();

  bool signalled = false;
  for (bool out_open = true, err_open = true; out_open || err_open;) {
    std::array<pollfd, 2> fds = {{{.fd = out_open ? out->read.get() : -1, .events = POLLIN, .revents = 0},
                                  {.fd = err_open ? err->read.get() : -1, .events = POLLIN, .revents = 0}}};
    ::poll(fds.data(), fds.size(), 10);
    if (fds[0].revents != 0) out_open = read_some(out->read.get(), outcome.out);
    if (fds[1].revents != 0) err_open = read_some(err->read.get(), outcome.err);
    if (options.signal != 0 && !signalled && options.signal_when()) {
      signalled = true;
      ::kill(child->pid(), options.signal);
    }
    if (std::chrono::steady_clock::now() - start > kLongest) {
      ADD_FAILURE() << "it does not end";
      break;
    }
  }
  const auto status = child->terminate(Deadline::after(std::chrono::seconds(5)));
  outcome.took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  if (status) {
    outcome.signal = status->signal;
    outcome.exit_code = status->signal == 0 ? status->code : -1;
  }
  outcome.left_processes = reap_leftovers();
  return outcome;
}

}  // namespace upci::test
