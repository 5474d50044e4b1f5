// SPDX-License-Identifier: Apache-2.0
// upci: the command line. Reads the arguments as a whole, then runs the one command that they name.
#include <fmt/format.h>

#include <csignal>
#include <exception>

#include "tools/upci/build_info.h"
#include "tools/upci/command.h"
#include "tools/upci/output.h"

namespace upci::tool {
namespace {

constexpr std::string_view kFooter =
    "'upci help COMMAND' explains a command.\n"
    "\n"
    "Examples:\n"
    "  upci list\n"
    "  upci probe qemu:virtio-net-pci,disable-legacy=on\n"
    "  upci net test emu:virtio-net --frames 10000\n"
    "  upci blk test qemu:virtio-blk-pci --destroy-contents\n"
    "  upci rng qemu:virtio-rng-pci --bytes 32 --hex\n"
    "  upci probe emu:virtio-net,fault=status-stuck --timeout 300ms\n"
    "\n"
    "Exit codes: 0 done, 1 error, 2 wrong usage, 3 a device verdict, 4 no driver matches, 5 not permitted or something "
    "that\n"
    "is needed is missing.";

/// What the parser does not say well by itself.
std::string message_of(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  const bool no_command = app.get_subcommands().empty();
  if (no_command && argc > 1 && argv[1][0] != '-') return fmt::format("there is no command '{}'", argv[1]);
  return error.what();
}

/// The innermost command that was named.
const CLI::App& named(const CLI::App& app) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  return *command;
}

ExitCode run(int argc, char** argv) {
  Interruption interruption;
  Invocation invocation{.interruption = &interruption};
  CLI::App app("Drives PCI and virtio devices from userspace", "upci");
  app.set_version_flag("--version", std::string(kVersion));
  app.footer(std::string(kFooter));
  app.require_subcommand(0, 1);
  add_list_command(app, invocation);
  add_probe_command(app, invocation);
  add_net_command(app, invocation);
  add_blk_command(app, invocation);
  add_rng_command(app, invocation);
  add_bind_command(app, invocation);
  add_unbind_command(app, invocation);
  add_wq_command(app, invocation);
  add_version_command(app, invocation);
  add_help_command(app, invocation);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return print_text(help_of(named(app)));
  } catch (const CLI::CallForVersion& version) {
    return print_text(fmt::format("{}\n", version.what()));
  } catch (const CLI::ParseError& error) {
    return usage_error(named(app), {.code = Errc::kInvalid, .what = message_of(app, error, argc, argv)});
  }
  if (!invocation.action) return print_text(help_of(app));
  if (auto installed = Interruption::install(interruption); !installed) return give_up(installed.error());
  return invocation.action();
}

}  // namespace
}  // namespace upci::tool

int main(int argc, char** argv) {
  using upci::tool::Interruption;
  // A reader of stdout that has gone is an error like any other, and no reason to leave devices bound.
  std::signal(SIGPIPE, SIG_IGN);
  auto code = upci::tool::ExitCode::kError;
  try {
    code = upci::tool::run(argc, argv);
  } catch (const std::exception& error) { upci::tool::print_error(error.what()); }
  if (const int number = Interruption::signal(); number != 0) {
    // Everything is given back; now end as the signal would have it, for whoever waits for this process.
    std::signal(number, SIG_DFL);
    std::raise(number);
  }
  return static_cast<int>(code);
}
