// SPDX-License-Identifier: Apache-2.0
// Runs the program as a child and keeps what it printed, how it ended, and whether it left anything running.
#pragma once

#include <nlohmann/json.hpp>

#include <chrono>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

namespace upci::test {

struct RunOptions {
  std::vector<std::string> environment = {};  // "NAME=value"
  std::vector<std::string> prefix = {};       // a program that runs upci: {"setpriv", ...}
  int signal = 0;                             // sent when `signal_when` is true
  std::function<bool()> signal_when = {};     // asked again and again while the program runs
  int stdout_fd = -1;                         // instead of keeping what it prints
};

struct Outcome {
  int exit_code = -1;  // -1 when a signal ended it
  int signal = 0;
  std::string out;
  std::string err;
  bool left_processes = false;  // it had children that were still there when it had ended
  std::chrono::milliseconds took{};

  /// The only thing on stdout, as JSON; discarded when it is none.
  nlohmann::json json() const { return nlohmann::json::parse(out, nullptr, false); }
};
std::ostream& operator<<(std::ostream& stream, const Outcome& outcome);

/// Runs `upci arguments...` to its end; kills it after a minute.
Outcome run_upci(const std::vector<std::string>& arguments, const RunOptions& options = {});

/// The path of the program.
std::string upci_path();

}  // namespace upci::test
