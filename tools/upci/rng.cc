// SPDX-License-Identifier: Apache-2.0
// upci rng: random bytes of an entropy device.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "drivers/virtio_rng/rng.h"
#include "tools/upci/command.h"
#include "tools/upci/numbers.h"
#include "tools/upci/output.h"
#include "tools/upci/probe_options.h"
#include "tools/upci/report_output.h"
#include "tools/upci/session.h"

namespace upci::tool {
namespace {

constexpr std::string_view kHelp =
    "Writes the bytes to stdout as they are, or as text with --hex or --json. Nothing but them goes to stdout; a "
    "terminal\n"
    "gets no raw bytes.\n"
    "\n"
    "Exit code: 3 where the device did not deliver within --limit; else as for upci probe.\n"
    "\n"
    "Examples:\n"
    "  upci rng qemu:virtio-rng-pci --bytes 32 --hex\n"
    "  upci rng 0000:41:00.0 --bytes 1048576 > seed.bin\n"
    "  upci rng qemu:virtio-rng-pci,max-bytes=8,period=60000 --bytes 64 --limit 500ms --json\n"
    "\n";

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;
constexpr std::size_t kHexWidth = 32;

struct Options {
  CommonOptions common;
  ProbeOptions probe;
  std::string uri;
  std::string bytes = "32";
  std::string limit = "5s";
  bool hex = false;
  bool poll = false;
};

struct Request {
  ProbeRequest probe;
  std::size_t bytes = 0;
  platform::Nanoseconds limit{};
};

Result<Request> check(Options options) {
  Request request;
  UPCI_TRY_ASSIGN(request.bytes, parse_count("--bytes", options.bytes, 1, kMostBytes));
  UPCI_TRY_ASSIGN(request.limit, parse_duration("--limit", options.limit));
  options.probe.uris = {options.uri};
  UPCI_TRY_ASSIGN(request.probe, check(options.probe));
  return request;
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

/// Lines of kHexWidth bytes.
std::string to_lines(std::span<const std::byte> bytes) {
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += kHexWidth)
    text += to_hex(bytes.subspan(at, std::min(kHexWidth, bytes.size() - at))) + "\n";
  return text;
}

/// What was read until all was there or an error came.
struct Harvest {
  std::vector<std::byte> bytes;
  std::uint64_t requests = 0;
  std::optional<Error> error;
  double seconds = 0;
};

Harvest harvest(Session& session, const Request& request, bool poll) {
  Harvest result;
  device::Bound* bound = session.context().bound(*session.devices().front());
  virtio_rng::Rng* rng = bound == nullptr ? nullptr : device::find<virtio_rng::Rng>(*bound);
  if (rng == nullptr) {
    result.error = fail(Errc::kNoDriver, request.probe.uris.front().text + " is no entropy device",
                        "name one, such as qemu:virtio-rng-pci")
                       .error();
    return result;
  }
  rng->set_polling(poll);
  result.bytes.resize(request.bytes);
  const platform::TimePoint begin = platform::Clock::now();
  std::size_t have = 0;
  while (have < request.bytes && Interruption::signal() == 0) {
    // The limit is one on silence: a slow device may take as long as it needs.
    auto got = rng->read(std::span(result.bytes).subspan(have), Deadline::after(request.limit));
    if (!got) {
      result.error = std::move(got).error();
      break;
    }
    have += *got;
    ++result.requests;
  }
  result.bytes.resize(have);
  result.seconds = std::chrono::duration<double>(platform::Clock::now() - begin).count();
  return result;
}

ExitCode print(const Harvest& result, const Options& options, const std::vector<device::Report>& reports) {
  if (options.common.json) {
    Json json = document();
    json["bytes"] = result.bytes.size();
    json["hex"] = to_hex(result.bytes);
    json["requests"] = result.requests;
    json["seconds"] = result.seconds;
    json["devices"] = to_json(reports);
    add_error(json, result.error ? &*result.error : nullptr);
    return print_document(json);
  }
  if (options.hex) return print_text(to_lines(result.bytes));
  return print_text({reinterpret_cast<const char*>(result.bytes.data()), result.bytes.size()});
}

ExitCode run(const CLI::App& command, const Options& options, Interruption& interruption) {
  apply(options.common);
  const auto request = check(options);
  if (!request) return usage_error(command, request.error());
  if (!options.common.json && !options.hex && ::isatty(STDOUT_FILENO) == 1) {
    return usage_error(
        command, fail(Errc::kInvalid, "raw bytes are not for a terminal", "add --hex, or redirect stdout").error());
  }
  auto session = Session::create();
  if (!session) return fail_command(session.error(), options.common.json);
  const std::vector<device::Report> reports =
      (*session)->probe(request->probe.uris, request->probe.timeout, interruption);
  ExitCode code = exit_code_of(reports);
  Harvest result;
  if (code == ExitCode::kDone && Interruption::signal() == 0) {
    const OnInterruption give_up(interruption, [&] { (*session)->abandon(); });
    result = harvest(**session, *request, options.poll);
  } else if (!options.common.json) {
    // stdout is for the bytes.
    print_error(to_text(reports));
  }
  if (Interruption::signal() != 0) return ExitCode::kError;
  if (result.error) code = worse(code, give_up(*result.error));
  return worse(code, print(result, options, reports));
}

}  // namespace

void add_rng_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("rng", "Random bytes of an entropy device");
  auto options = std::make_shared<Options>();
  command->add_option("URI", options->uri, "The device")->required()->type_name("");
  command->add_option("--bytes", options->bytes, "How many")->type_name("N")->capture_default_str();
  command->add_flag("--hex", options->hex, fmt::format("As text, {} bytes a line", kHexWidth));
  command->add_flag("--poll", options->poll, "Look at the ring instead of waiting for interrupts");
  command->add_option("--limit", options->limit, "When nothing has come for so long, the device is stuck")
      ->type_name("DURATION")
      ->capture_default_str();
  add_probe_options(*command, options->probe);
  add_common_options(*command, options->common);
  command->footer(std::string(kHelp) + device_help());
  command->callback([&invocation, options, command] {
    invocation.action = [&invocation, options, command] { return run(*command, *options, *invocation.interruption); };
  });
}

}  // namespace upci::tool
