// SPDX-License-Identifier: Apache-2.0
// upci probe: binds each device's driver, all at once, and says what came of it.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "tools/upci/command.h"
#include "tools/upci/numbers.h"
#include "tools/upci/output.h"
#include "tools/upci/probe_options.h"
#include "tools/upci/report_file.h"
#include "tools/upci/report_output.h"
#include "tools/upci/session.h"
#include "tools/upci/uri.h"

namespace upci::tool {
namespace {

constexpr std::string_view kHelp =
    "Every wait on a device has a deadline. A device that does not do its part ends in a verdict, with the step, the\n"
    "register, what was read when, and the call traces of the waiting worker and of who asked for the probe; the "
    "others\n"
    "are not held up. Afterwards the devices are given back.\n"
    "\n"
    "Exit code: 0 all are ok (or slow), 3 a device verdict, 4 no driver matches, 5 not permitted or something is "
    "missing,\n"
    "2 the command line is wrong, 1 any other error.\n"
    "\n"
    "Examples:\n"
    "  upci probe qemu:virtio-net-pci,disable-legacy=on\n"
    "  upci probe qemu:virtio-net-pci,disable-legacy=off,driver=legacy\n"
    "  upci probe emu:virtio-net,fault=status-stuck --timeout 300ms\n"
    "  upci probe emu:virtio-net,fault=status-stuck emu:virtio-net emu:virtio-net,legacy --json\n"
    "  upci probe emu:virtio-net,fault=status-stuck --report hang.json\n"
    "\n";

struct Options {
  CommonOptions common;
  ProbeOptions probe;
  std::string report_path;
};

ExitCode run(const CLI::App& command, const Options& options, Interruption& interruption) {
  apply(options.common);
  const auto request = check(options.probe);
  if (!request) return usage_error(command, request.error());

  std::optional<ReportFile> file;
  if (!options.report_path.empty()) {
    auto opened = ReportFile::open(options.report_path);
    if (!opened) return fail_command(opened.error(), options.common.json);
    file.emplace(std::move(*opened));
  }
  auto session = Session::create();
  if (!session) return fail_command(session.error(), options.common.json);
  std::vector<device::Report> reports = (*session)->probe(request->uris, request->timeout, interruption);
  if (Interruption::signal() != 0) return ExitCode::kError;
  (*session)->add_late_evidence(request->uris, reports);

  ExitCode code = exit_code_of(reports);
  // Names are looked up once; the whole is printed before the devices are given back, which can take its time as well.
  Json json;
  if (options.common.json || file) {
    json = document();
    json["devices"] = to_json(reports);
  }
  if (file) {
    if (auto written = file->commit(document_text(json)); !written) code = worse(code, give_up(written.error()));
  }
  return worse(code, options.common.json ? print_document(json) : print_text(to_text(reports)));
}

}  // namespace

void add_probe_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("probe", "Bind the drivers of devices, all at once, each within a deadline");
  auto options = std::make_shared<Options>();
  command->add_option("URI", options->probe.uris, "The devices")->required()->type_name("")->expected(1, -1);
  add_probe_options(*command, options->probe);
  command->add_option("--report", options->report_path, "Write the JSON document to a file as well")->type_name("FILE");
  add_common_options(*command, options->common);
  command->footer(std::string(kHelp) + device_help());
  command->callback([&invocation, options, command] {
    invocation.action = [&invocation, options, command] { return run(*command, *options, *invocation.interruption); };
  });
}

}  // namespace upci::tool
