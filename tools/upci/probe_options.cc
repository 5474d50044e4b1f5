// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/probe_options.h"

#include <fmt/format.h>

#include <map>

#include "tools/upci/numbers.h"
#include "tools/upci/output.h"

namespace upci::tool {

void add_probe_options(CLI::App& command, ProbeOptions& options) {
  command.add_option("--timeout", options.timeout, "Bounds each device's whole probe: 1500us, 300ms, 2s")
      ->type_name("DURATION")
      ->capture_default_str();
  command.add_flag("--observed", options.observed,
                   "Rings check and record each of their accesses; slower, to find mistakes of a driver");
}

namespace {

/// A cable has two ends.
Result<void> check_cables(const std::vector<Uri>& uris) {
  std::map<std::string, int> ends;
  for (const Uri& uri : uris) {
    const emulation::WireSpec& wire = uri.spec.wire;
    if (wire.kind == emulation::WireSpec::Kind::kCable && ++ends[wire.name] > 2) {
      return fail(Errc::kInvalid, fmt::format("more than two devices are on wire=cable:{}", wire.name),
                  "a cable has two ends: give the third device another one");
    }
  }
  return {};
}

}  // namespace

Result<ProbeRequest> check(const ProbeOptions& options) {
  ProbeRequest request;
  UPCI_TRY_ASSIGN(request.timeout, parse_duration("--timeout", options.timeout));
  UPCI_TRY_ASSIGN(request.uris, parse_uris(options.uris));
  for (Uri& uri : request.uris) uri.options.observed = options.observed;
  UPCI_TRY(check_cables(request.uris));
  return request;
}

ExitCode fail_command(const Error& error, bool json) {
  const ExitCode code = give_up(error);
  if (!json) return code;
  Json empty = document();
  empty["devices"] = Json::array();
  add_error(empty, &error);
  return worse(code, print_document(empty));
}

}  // namespace upci::tool
