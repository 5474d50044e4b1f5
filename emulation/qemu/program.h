// SPDX-License-Identifier: Apache-2.0
// Running the QEMU program, and reading what it says.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/process.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

/// Takes what a child writes to its stdout and stderr, up to kRoom bytes; the rest is lost. It is memory, not a pipe:
/// the child never waits for a reader, and its last words can be read after its end.
class OutputCapture {
 public:
  static constexpr std::size_t kRoom = 256 * 1024;

  /// Errors: kSystem.
  static Result<OutputCapture> create();
  int fd() const noexcept { return memfd_.get(); }
  /// All of it so far.
  std::string text() const;

 private:
  explicit OutputCapture(UniqueFd memfd) noexcept : memfd_(std::move(memfd)) {}
  UniqueFd memfd_;
};

struct ProgramRun {
  ExitStatus status;
  std::string output;  // stdout and stderr
};

/// Starts `program`, with both outputs going to `output`. Errors: kUnavailable (it is not there, with the advice what
/// to install), kSystem, kTimeout.
Result<ChildProcess> start_program(const std::string& program, const std::vector<std::string>& arguments,
                                   const OutputCapture& output, std::vector<ChildProcess::InheritedFd> fds = {});

/// Runs it to its end. Errors: as start_program; kTimeout (it is killed).
Result<ProgramRun> run_program(const std::string& program, const std::vector<std::string>& arguments,
                               Deadline deadline);

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
