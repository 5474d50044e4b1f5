// SPDX-License-Identifier: Apache-2.0
// Finds the processes that serve a control socket, and talks to one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "tools/upci/output.h"

namespace upci::tool {

/// An engine of a process.
struct WqTarget {
  int pid = 0;
  int engine = 0;  // which one of the process
  std::string path = {};
  std::string program = {};  // its name; empty when it is not known
  std::string name() const;
};

/// "1234" or "1234.1" (the second engine of that process). Errors: kInvalid.
Result<WqTarget> parse_wq_target(const std::string& text);

/// All that answer: of this user, and of everybody when this is root. By pid.
std::vector<WqTarget> find_wq_targets();

/// Talks to one engine. Each answer is waited for at most five seconds, unless set_patience() says else. Not thread-safe.
class WqClient {
 public:
  /// Errors: kUnavailable (nobody listens, not permitted), kSystem.
  static Result<WqClient> connect(const WqTarget& target);

  /// Sends a request, its fields with tabs between them, and a descriptor where it is to have one. What comes back with "ok".
  /// Errors: what the process answers; kSystem (it has gone), kTimeout.
  Result<std::string> ask(const std::vector<std::string>& fields, int pass_fd = -1);
  /// How long answers are waited for from now on.
  void set_patience(int seconds) noexcept;
  /// The same, as JSON.
  Result<Json> ask_json(const std::vector<std::string>& fields);

 private:
  explicit WqClient(UniqueFd fd) noexcept : fd_(std::move(fd)) {}
  Result<std::string> take(std::size_t length);
  Result<std::string> take_line();

  UniqueFd fd_;
  std::string input_;
};

}  // namespace upci::tool
