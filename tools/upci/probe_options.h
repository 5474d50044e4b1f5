// SPDX-License-Identifier: Apache-2.0
// What the commands that probe devices have in common.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "tools/upci/exit_code.h"
#include "tools/upci/uri.h"

namespace upci::tool {

/// As typed.
struct ProbeOptions {
  std::vector<std::string> uris;
  std::string timeout = "2s";
  bool observed = false;
};
/// --timeout and --observed. The URIs are the command's own.
void add_probe_options(CLI::App& command, ProbeOptions& options);

/// As understood.
struct ProbeRequest {
  std::vector<Uri> uris;
  platform::Nanoseconds timeout{};
};
/// Errors: kInvalid.
Result<ProbeRequest> check(const ProbeOptions& options);

/// Ends a command that could not get as far as its devices. The JSON document then has an empty list of them.
ExitCode fail_command(const Error& error, bool json);

}  // namespace upci::tool
