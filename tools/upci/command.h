// SPDX-License-Identifier: Apache-2.0
// How the commands hang together: each adds itself to the parser and leaves, when it is the one that was called, an action.
// The command line is read as a whole before any action runs.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "tools/upci/exit_code.h"
#include "tools/upci/interruption.h"

namespace upci::tool {

struct Invocation {
  Interruption* interruption = nullptr;
  std::function<ExitCode()> action = {};
};

void add_list_command(CLI::App& app, Invocation& invocation);
void add_probe_command(CLI::App& app, Invocation& invocation);
void add_net_command(CLI::App& app, Invocation& invocation);
void add_blk_command(CLI::App& app, Invocation& invocation);
void add_rng_command(CLI::App& app, Invocation& invocation);
void add_bind_command(CLI::App& app, Invocation& invocation);
void add_unbind_command(CLI::App& app, Invocation& invocation);
void add_version_command(CLI::App& app, Invocation& invocation);
void add_wq_command(CLI::App& app, Invocation& invocation);
void add_help_command(CLI::App& app, Invocation& invocation);

/// What every command can be told.
struct CommonOptions {
  bool json = false;
  int verbose = 0;
};
void add_common_options(CLI::App& command, CommonOptions& options);
/// Sets the log level that the options ask for. Logs go to stderr.
void apply(const CommonOptions& options);

/// The part of a help text that says how devices are written.
std::string device_help();

/// The help text of one command.
std::string help_of(const CLI::App& command);

/// Ends a command whose line is wrong: the message and where to read more.
ExitCode usage_error(const CLI::App& command, const Error& error);

}  // namespace upci::tool
