// SPDX-License-Identifier: Apache-2.0
// Child processes: QEMU, isolated probes. Real only: a simulation starts no processes.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT {

/// The two ends of a pipe, both closed on exec.
struct Pipe {
  UniqueFd read;
  UniqueFd write;
  /// Errors: kSystem when the process is out of descriptors.
  static Result<Pipe> create();
};

/// How a process ended.
struct ExitStatus {
  int code = 0;    // its exit code, when signal is 0
  int signal = 0;  // the signal that killed it, or 0
  bool ok() const noexcept { return code == 0 && signal == 0; }
  /// "exited with code 1", "was killed by signal 9 (Killed)".
  std::string text() const;
};

/// A running child. It is killed when this process ends, however that happens, and when this object does. It runs in a
/// process group of its own, so that an interrupt typed at the terminal leaves its end to us. Move-only; not thread-safe.
class ChildProcess {
 public:
  /// A descriptor that the child is to have; every other one but 0, 1 and 2 is closed there.
  struct InheritedFd {
    int fd = -1;  // here
    int as = -1;  // its number there, 3 or more; -1: the same
  };
  struct Spec {
    std::vector<std::string> argv{};  // argv[0] is looked for in PATH unless it has a slash
    std::vector<InheritedFd> fds{};
    std::vector<std::string> environment{};  // "NAME=value", beside (and before) what this process has
    int stdin_fd = -1;                       // -1: /dev/null
    int stdout_fd = -1;                      // -1: this process's own
    int stderr_fd = -1;                      // -1: this process's own
  };

  /// Starts a program. Any thread.
  /// Errors: kUnavailable when the program is missing or may not be executed; kInvalid for a bad spec; kSystem; kTimeout
  /// when the system does not start it within 10 s (it is killed then, should it come after all).
  static Result<ChildProcess> spawn(Spec spec);

  ChildProcess(ChildProcess&&) noexcept;
  ChildProcess& operator=(ChildProcess&&) noexcept;
  /// Kills and reaps it if it still runs.
  ~ChildProcess();

  pid_t pid() const noexcept { return pid_; }
  /// Becomes readable when the child has ended; for an EventQueue.
  int pidfd() const noexcept { return pidfd_.get(); }
  bool running();
  /// Waits for the end and reaps. Errors: kTimeout.
  Result<ExitStatus> wait(Deadline deadline);
  /// Asks it to end (SIGTERM), kills it at the deadline (SIGKILL), and reaps it.
  /// Errors: kTimeout when even the kill had no effect within 5 s (it sits in a device access); it is reaped later.
  Result<ExitStatus> terminate(Deadline deadline);
  /// SIGKILL, and reaps. Errors: as terminate().
  Result<ExitStatus> kill();

 private:
  ChildProcess(pid_t pid, UniqueFd pidfd) noexcept;
  void send(int signal) noexcept;
  bool try_reap();
  void leave_behind() noexcept;

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  bool reaped_ = false;
  ExitStatus status_;
};

}  // namespace upci::inline UPCI_VARIANT
