// SPDX-License-Identifier: Apache-2.0
// DPDK's testpmd with a vhost-user port: a virtio device that nobody here wrote, with a core of its own that polls.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/process.h"
#include "emulation/qemu/program.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

/// A running testpmd, the server of a socket in a folder of its own. Both go with it.
class Testpmd {
 public:
  struct Options {
    std::string mode = "io";                  // --forward-mode; with one port, io sends back what comes
    unsigned queues = 1;                      // queue pairs
    int cpu = -1;                             // it polls there; -1: the first one that this process may use
    std::vector<std::string> port = {};       // words for the vhost port: "tso=1"
    std::vector<std::string> arguments = {};  // more of testpmd's own
  };
  /// What it saw. Its receive side is the driver's transmit side.
  struct Counts {
    std::uint64_t received = 0, receive_dropped = 0;
    std::uint64_t sent = 0, send_dropped = 0;  // dropped: the driver's ring had no room
  };

  static bool installed();
  /// Returns once it listens. Errors: kUnavailable (not installed, or it ended, with what it said), kTimeout, kSystem.
  static Result<std::unique_ptr<Testpmd>> start(const Options& options, Deadline deadline);
  ~Testpmd();

  const std::string& socket() const noexcept { return socket_; }
  /// Its threads: /proc/PID/task.
  pid_t pid() const noexcept { return child_.pid(); }
  /// What it said so far.
  std::string output() const { return output_.text(); }
  /// Ends it; it counts to the last frame. Errors: kTimeout, kDevice (it ended otherwise than it should).
  Result<Counts> stop(Deadline deadline);

 private:
  Testpmd(std::string folder, emulation::qemu::OutputCapture output, ChildProcess child)
      : folder_(std::move(folder)), socket_(folder_ + "/vhost"), output_(std::move(output)), child_(std::move(child)) {}

  const std::string folder_;
  const std::string socket_;
  emulation::qemu::OutputCapture output_;
  ChildProcess child_;
};

}  // namespace upci::inline UPCI_VARIANT::driver_tests
