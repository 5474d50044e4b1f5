// SPDX-License-Identifier: Apache-2.0
// upci bind: gives PCI functions of this machine to vfio-pci.
#include "vfio/bind/bind.h"

#include <fmt/format.h>

#include <memory>

#include "base/wait.h"
#include "tools/upci/addresses.h"
#include "tools/upci/command.h"
#include "tools/upci/output.h"
#include "tools/upci/probe_options.h"

namespace upci::tool {
namespace {

constexpr std::string_view kHelp =
    "Takes functions from the kernel's driver and gives them to vfio-pci, for 'upci probe' and 'upci net test'. Needs "
    "root.\n"
    "'upci unbind' gives them back.\n"
    "\n"
    "Before anything is let go, all of this is made sure of, for all functions; each refusal says what is in the way:\n"
    "  - vfio-pci is there (its module is loaded when it is not, and stays loaded);\n"
    "  - the function has an IOMMU group, and everything else in the group has no driver, is on vfio-pci, pci-stub or\n"
    "    pcieport, or is named in the same command;\n"
    "  - neither it nor anything behind it carries a mounted file system, active swap or a default route of this "
    "machine\n"
    "    (of the main routing table; a disk that only a virtual machine or ZFS uses is not seen).\n"
    "A bridge can be named too: when its driver is in the group's way (shpchp), it is released from that driver, and "
    "no\n"
    "more; any other bridge stays as it is.\n"
    "\n"
    "Only driver_override is used, never new_id: no other device of the same kind is touched. What was before, driver "
    "and\n"
    "driver_override, is written to /run/upci/bind/ADDRESS.json (UPCI_STATE_DIR names another folder, for unbind as "
    "well)\n"
    "before the first change. After an error, SIGINT or SIGTERM all that was done is undone; after a kill -9 at any "
    "moment\n"
    "'upci unbind' repairs. When the kernel holds a device for more than 10 s (a driver that does not end its probe "
    "or\n"
    "removal), the command gives up, says so, and leaves the record.\n"
    "\n"
    "A function that is bound to vfio-pci already stays as it is: \"changed\" is false then.\n"
    "\n"
    "Exit code: 0 all are bound, 5 not permitted or something is missing or in the way, 2 the command line is wrong,\n"
    "1 any other error. With --hold: 0 when the signal came and what was before is restored.\n"
    "\n"
    "Examples:\n"
    "  upci bind 0000:41:00.0\n"
    "  upci bind 0000:41:00.0 0000:81:00.0 --json\n"
    "  upci bind 0000:02:01.0 0000:01:00.0        a NIC, and the bridge above it that shpchp has\n"
    "  upci bind 0000:41:00.0 --hold              until Ctrl-C, then back to the kernel's driver";

struct Options {
  CommonOptions common;
  std::vector<std::string> addresses;
  bool hold = false;
};

Json to_json(const std::vector<vfio::bind::Bound>& all) {
  Json json = Json::array();
  for (const vfio::bind::Bound& bound : all) {
    json.push_back({{"address", bound.address.to_string()},
                    {"driver", or_null(bound.driver)},
                    {"previous_driver", or_null(bound.previous_driver)},
                    {"previous_override", or_null(bound.previous_override)},
                    {"group", or_null(bound.group)},
                    {"node", or_null(bound.node)},
                    {"changed", bound.changed},
                    {"note", or_null(bound.note)}});
  }
  return json;
}

std::string to_text(const std::vector<vfio::bind::Bound>& all) {
  std::string text;
  for (const vfio::bind::Bound& bound : all) {
    text += fmt::format("{}  {}", bound.address.to_string(), bound.driver.empty() ? "no driver" : bound.driver);
    if (bound.changed)
      text += fmt::format(" (before: {})", bound.previous_driver.empty() ? "none" : bound.previous_driver);
    if (bound.group >= 0) text += fmt::format(", group {}", bound.group);
    if (bound.node >= 0) text += fmt::format(", node {}", bound.node);
    if (!bound.changed) text += "; unchanged";
    if (!bound.note.empty()) text += fmt::format(": {}", bound.note);
    text += '\n';
  }
  return text;
}

ExitCode print(const std::vector<vfio::bind::Bound>& bound, bool json) {
  if (!json) return print_text(to_text(bound));
  Json all = document();
  all["bound"] = to_json(bound);
  return print_document(all);
}

/// Gives back what this command has bound.
ExitCode give_back(vfio::bind::Binder& binder, const std::vector<vfio::bind::Bound>& bound) {
  std::vector<pci::Address> addresses;
  for (auto each = bound.rbegin(); each != bound.rend(); ++each) {
    if (each->changed) addresses.push_back(each->address);
  }
  const auto restored = binder.unbind(addresses);
  if (!restored) return give_up(restored.error());
  ExitCode code = ExitCode::kDone;
  for (const vfio::bind::Restored& each : *restored) {
    if (each.error) code = worse(code, give_up(*each.error));
  }
  return code;
}

ExitCode run(const CLI::App& command, const Options& options, Interruption& interruption) {
  apply(options.common);
  const auto addresses = parse_addresses(options.addresses);
  if (!addresses) return usage_error(command, addresses.error());
  const auto folder = vfio::bind::state_folder();
  if (!folder) return usage_error(command, folder.error());

  const std::unique_ptr<vfio::bind::Sysfs> sysfs = vfio::bind::make_sysfs();
  vfio::bind::Binder binder(*sysfs, *folder);
  const auto bound = binder.bind(*addresses, [] { return Interruption::signal() != 0; });
  if (!bound) return fail_command(bound.error(), options.common.json);

  const ExitCode printed = print(*bound, options.common.json);
  if (!options.hold) return printed;
  if (printed == ExitCode::kDone) {
    Completion signalled;
    const OnInterruption on_signal(interruption, [&] { signalled.complete(); });
    signalled.wait();
    Interruption::take();  // what this command is told to end by
  }
  return worse(printed, give_back(binder, *bound));
}

}  // namespace

void add_bind_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("bind", "Give PCI functions to vfio-pci; what was before is written down");
  auto options = std::make_shared<Options>();
  command->add_option("ADDRESS", options->addresses, "The functions, as in 0000:65:00.0")
      ->required()
      ->type_name("")
      ->expected(1, -1);
  command->add_flag("--hold", options->hold, "Wait for SIGINT or SIGTERM, then restore what was before");
  add_common_options(*command, options->common);
  command->footer(std::string(kHelp));
  command->callback([&invocation, options, command] {
    invocation.action = [&invocation, options, command] { return run(*command, *options, *invocation.interruption); };
  });
}

}  // namespace upci::tool
