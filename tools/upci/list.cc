// SPDX-License-Identifier: Apache-2.0
// upci list: the PCI functions of this machine. Reads only.
#include <fmt/format.h>

#include <memory>

#include "pci/enumerate.h"
#include "tools/upci/command.h"
#include "tools/upci/output.h"

namespace upci::tool {
namespace {

constexpr std::string_view kHelp =
    "Reads only: no function is opened, reset or bound.\n"
    "\n"
    "virtio is the interface of a virtio function: modern, legacy or transitional; unknown where the capabilities "
    "cannot be\n"
    "read (only root sees more than the first 64 bytes of config space).\n"
    "\n"
    "Examples:\n"
    "  upci list\n"
    "  upci list --json | jq '.functions[] | select(.virtio != null)'";

/// null when it is no virtio function.
Json virtio_word(pci::VirtioInterface interface) {
  switch (interface) {
    case pci::VirtioInterface::kNone: return nullptr;
    case pci::VirtioInterface::kModern: return "modern";
    case pci::VirtioInterface::kLegacy: return "legacy";
    case pci::VirtioInterface::kTransitional: return "transitional";
    case pci::VirtioInterface::kUnknown: return "unknown";
  }
  return nullptr;
}

// Numbers are written as sysfs writes them.
Json to_json(const pci::Function& function) {
  return {{"address", function.address.to_string()},
          {"vendor", fmt::format("0x{:04x}", function.vendor)},
          {"device", fmt::format("0x{:04x}", function.device)},
          {"class", fmt::format("0x{:06x}", function.class_code)},
          {"driver", or_null(function.driver)},
          {"node", or_null(function.node)},
          {"iommu_group", or_null(function.iommu_group)},
          {"virtio", virtio_word(function.virtio)}};
}

std::string known(int number) { return number < 0 ? "-" : std::to_string(number); }

std::string to_text(const std::vector<pci::Function>& functions) {
  if (functions.empty()) return "no PCI functions\n";
  std::string text = fmt::format("{:<12}  {:<9}  {:<6}  {:<16}  {:>4}  {:>5}  {}\n", "address", "id", "class", "driver",
                                 "node", "group", "virtio");
  for (const pci::Function& function : functions) {
    const Json virtio = virtio_word(function.virtio);
    text += fmt::format("{:<12}  {:04x}:{:04x}  {:06x}  {:<16}  {:>4}  {:>5}  {}\n", function.address.to_string(),
                        function.vendor, function.device, function.class_code,
                        function.driver.empty() ? "-" : function.driver, known(function.node),
                        known(function.iommu_group), virtio.is_null() ? "-" : virtio.get<std::string>());
  }
  return text;
}

ExitCode run(const CommonOptions& common) {
  const auto functions = pci::enumerate();
  if (!common.json) return functions ? print_text(to_text(*functions)) : give_up(functions.error());
  Json json = document();
  json["functions"] = Json::array();
  if (functions) {
    for (const pci::Function& function : *functions) json["functions"].push_back(to_json(function));
    return print_document(json);
  }
  add_error(json, &functions.error());
  return worse(give_up(functions.error()), print_document(json));
}

}  // namespace

void add_list_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("list", "List the PCI functions of this machine");
  command->footer(std::string(kHelp));
  auto common = std::make_shared<CommonOptions>();
  add_common_options(*command, *common);
  command->callback([&invocation, common] {
    invocation.action = [common] {
      apply(*common);
      return run(*common);
    };
  });
}

}  // namespace upci::tool
