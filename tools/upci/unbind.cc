// SPDX-License-Identifier: Apache-2.0
// upci unbind: gives PCI functions back to what had them before upci bind.
#include <fmt/format.h>

#include <memory>

#include "tools/upci/addresses.h"
#include "tools/upci/command.h"
#include "tools/upci/output.h"
#include "tools/upci/probe_options.h"
#include "vfio/bind/bind.h"

namespace upci::tool {
namespace {

constexpr std::string_view kHelp =
    "Restores driver_override and driver to what 'upci bind' wrote down, and removes the record. Needs root.\n"
    "\n"
    "It repairs as well: after a bind or unbind that was killed at any moment, the record says what was before, and "
    "each "
    "step\n"
    "is done as far as it is not done yet (\"repaired\" is true then). A function that has gone, or in whose place "
    "another\n"
    "device is now, is left alone, and its record removed.\n"
    "\n"
    "Refused: a function that upci did not bind, that somebody else has bound to another driver meanwhile, or that a "
    "process\n"
    "has open through VFIO (the process is named). When the kernel does not let go of a device within 10 s, the "
    "command\n"
    "gives up, says so and leaves the record, so that it can be run again. An error of one function does not keep the "
    "others\n"
    "from being restored.\n"
    "\n"
    "The records are in /run/upci/bind; UPCI_STATE_DIR names another folder. By hand, without a record:\n"
    "  echo > /sys/bus/pci/devices/ADDRESS/driver_override\n"
    "  echo ADDRESS > /sys/bus/pci/devices/ADDRESS/driver/unbind\n"
    "  echo ADDRESS > /sys/bus/pci/drivers_probe\n"
    "\n"
    "Exit code: 0 all are restored, 5 not permitted, not bound by upci or in use, 2 the command line is wrong, 1 any "
    "other\n"
    "error.\n"
    "\n"
    "Examples:\n"
    "  upci unbind 0000:41:00.0\n"
    "  upci unbind --all --json";

struct Options {
  CommonOptions common;
  std::vector<std::string> addresses;
  bool all = false;
};

Json to_json(const std::vector<vfio::bind::Restored>& all) {
  Json json = Json::array();
  for (const vfio::bind::Restored& restored : all) {
    Json entry = {{"address", restored.address.to_string()},
                  {"driver", or_null(restored.driver)},
                  {"repaired", restored.repaired},
                  {"note", or_null(restored.note)}};
    add_error(entry, restored.error ? &*restored.error : nullptr);
    json.push_back(std::move(entry));
  }
  return json;
}

std::string to_text(const std::vector<vfio::bind::Restored>& all) {
  if (all.empty()) return "upci has bound nothing\n";
  std::string text;
  for (const vfio::bind::Restored& restored : all) {
    text +=
        fmt::format("{}  {}", restored.address.to_string(), restored.driver.empty() ? "no driver" : restored.driver);
    if (restored.error) text += ": not restored";
    if (restored.repaired) text += " (repaired)";
    if (!restored.note.empty()) text += fmt::format(": {}", restored.note);
    text += '\n';
  }
  return text;
}

ExitCode run(const CLI::App& command, const Options& options) {
  apply(options.common);
  if (options.all == !options.addresses.empty()) {
    return usage_error(command, {.code = Errc::kInvalid, .what = "name the functions, or say --all, not both"});
  }
  const auto addresses = parse_addresses(options.addresses);
  if (!addresses) return usage_error(command, addresses.error());
  const auto folder = vfio::bind::state_folder();
  if (!folder) return usage_error(command, folder.error());

  const std::unique_ptr<vfio::bind::Sysfs> sysfs = vfio::bind::make_sysfs();
  vfio::bind::Binder binder(*sysfs, *folder);
  const auto restored = options.all ? binder.unbind_all() : binder.unbind(*addresses);
  if (!restored) return fail_command(restored.error(), options.common.json);

  ExitCode code = ExitCode::kDone;
  for (const vfio::bind::Restored& each : *restored) {
    if (each.error) code = worse(code, give_up(*each.error));
  }
  if (!options.common.json) return worse(code, print_text(to_text(*restored)));
  Json json = document();
  json["restored"] = to_json(*restored);
  return worse(code, print_document(json));
}

}  // namespace

void add_unbind_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("unbind", "Give PCI functions back to what had them before 'upci bind'");
  auto options = std::make_shared<Options>();
  command->add_option("ADDRESS", options->addresses, "The functions, as in 0000:65:00.0")
      ->type_name("")
      ->expected(0, -1);
  command->add_flag("--all", options->all, "Every function of which there is a record");
  add_common_options(*command, options->common);
  command->footer(std::string(kHelp));
  command->callback(
      [&invocation, options, command] { invocation.action = [options, command] { return run(*command, *options); }; });
}

}  // namespace upci::tool
