// SPDX-License-Identifier: Apache-2.0
// upci net test: numbered frames over one card and back, or between two, each checked byte by byte.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "tools/upci/command.h"
#include "tools/upci/net_frame.h"
#include "tools/upci/net_traffic.h"
#include "tools/upci/numbers.h"
#include "tools/upci/output.h"
#include "tools/upci/probe_options.h"
#include "tools/upci/report_output.h"
#include "tools/upci/session.h"

namespace upci::tool {
namespace {

using emulation::WireSpec;

constexpr std::string_view kHelp =
    "With one device each frame goes out and comes back by its loopback wire. With two, each sends N frames to the "
    "other,\n"
    "both at once; when neither names a wire, they are connected to each other. PCI functions of the machine have "
    "cables\n"
    "of their own: name two that are connected, or one whose other end sends each frame back.\n"
    "By interrupt (the default) a frame is taken by the bottom half, in a worker of the vector's CPU; with --poll "
    "this\n"
    "thread looks at the rings.\n"
    "\n"
    "wakeups counts how often the workers of those CPUs came out of their idle wait during the test. interrupts\n"
    "(raised by the device) and bottom_halves are those of all vectors, transmit included.\n"
    "rings counts how often the devices were told of new buffers (kicks) and how often that was spared, and frames "
    "that\n"
    "took several packets. A wire of tap: or vhost-user: leads to somebody who must send the frames back.\n"
    "\n"
    "Exit code: 1 where any frame was lost, corrupt or duplicated, or the driver broke a rule of the rings "
    "(--observed);\n"
    "else as for upci probe.\n"
    "\n"
    "Examples:\n"
    "  upci net test emu:virtio-net --frames 10000\n"
    "  upci net test qemu:virtio-net-pci,disable-legacy=on --frames 10000 --size 1514 --poll\n"
    "  upci net test 0000:41:00.0 0000:81:00.0 --frames 10000 --json\n"
    "  upci net test emu:virtio-net --frames 100 --capture frames.pcapng\n"
    "  upci net test qemu:virtio-net-pci,wire=cable:a emu:virtio-net,wire=cable:a --frames 1000 --json\n"
    "\n";

// The numbers seen are kept as one bit each.
constexpr std::uint64_t kMostFrames = 1'000'000'000;

struct Options {
  CommonOptions common;
  ProbeOptions probe;
  std::string frames;
  std::string size = "64";
  std::string idle = "5s";
  std::string capture;
  bool poll = false;
};

struct Request {
  ProbeRequest probe;
  TrafficOptions traffic;
  std::string capture;  // a file, or nothing
};

/// "64", or "60-9000".
Result<FrameSizes> parse_sizes(std::string_view text) {
  const std::size_t dash = text.find('-');
  FrameSizes sizes;
  UPCI_TRY_ASSIGN(sizes.shortest, parse_count("--size", text.substr(0, dash), kSmallestFrame, kLargestFrame));
  sizes.longest = sizes.shortest;
  if (dash == std::string_view::npos) return sizes;
  UPCI_TRY_ASSIGN(sizes.longest, parse_count("--size", text.substr(dash + 1), sizes.shortest, kLargestFrame));
  return sizes;
}

/// Two devices whose frames cannot meet are a mistake in the command line.
Result<void> connect(std::vector<Uri>& uris) {
  if (uris.size() < 2) return {};
  const auto is_function = [](const Uri& uri) { return uri.scheme == Scheme::kVfio; };
  const auto functions = std::ranges::count_if(uris, is_function);
  if (functions == 2) return {};  // how they are cabled is for those to say who did it
  const auto named = [](const Uri& uri) { return uri.wire_given; };
  if (functions == 1) {
    if (std::ranges::any_of(uris, named)) return {};
    return fail(Errc::kInvalid, "a PCI function of the machine and an emulated device are not connected",
                "give the emulated one a wire that leads to the other's cable (wire=unix:PATH), or name two functions");
  }
  if (std::ranges::none_of(uris, named)) {
    for (Uri& uri : uris) uri.spec.wire = {.kind = WireSpec::Kind::kCable, .name = "between the two"};
    return {};
  }
  const WireSpec& a = uris[0].spec.wire;
  const WireSpec& b = uris[1].spec.wire;
  // Whom a unix socket leads to is for those to say who listen there.
  const bool meet =
      a.kind == b.kind && (a.kind == WireSpec::Kind::kUnix || (a.kind == WireSpec::Kind::kCable && a.name == b.name));
  if (meet) return {};
  return fail(Errc::kInvalid, "the wires of the two devices do not meet",
              "add the same wire=cable:NAME to both, or leave wire= out of both");
}

Result<Request> check(const Options& options) {
  Request request;
  UPCI_TRY_ASSIGN(request.traffic.frames, parse_count("--frames", options.frames, 1, kMostFrames));
  UPCI_TRY_ASSIGN(request.traffic.sizes, parse_sizes(options.size));
  UPCI_TRY_ASSIGN(request.traffic.idle, parse_duration("--idle", options.idle));
  request.traffic.poll = options.poll;
  request.capture = options.capture;
  request.traffic.observed = options.probe.observed;
  UPCI_TRY_ASSIGN(request.probe, check(options.probe));
  if (request.probe.uris.size() > 2) {
    return fail(Errc::kInvalid, "frames pass over one device or between two; there are more",
                "name one or two devices");
  }
  UPCI_TRY(connect(request.probe.uris));
  return request;
}

Json to_json(const TrafficResult& result, const TrafficOptions& options) {
  Json json = document();
  json["sent"] = result.sent;
  json["received"] = result.received;
  json["lost"] = result.lost;
  json["corrupt"] = result.corrupt;
  json["duplicated"] = result.duplicated;
  json["reordered"] = result.reordered;
  json["interrupts"] = result.interrupts;
  json["wakeups"] = result.wakeups;
  json["bottom_halves"] = result.bottom_halves;
  json["cpus"] = result.cpus;
  json["queue_pairs"] = result.queue_pairs;
  json["kicks"] = result.kicks;
  json["kicks_suppressed"] = result.kicks_suppressed;
  json["indirect_chains"] = result.indirect_chains;
  json["batched_chains"] = result.batched_chains;
  json["merged_frames"] = result.merged_frames;
  json["seconds"] = result.seconds;
  if (result.captured) json["captured"] = *result.captured;
  json["notes"] = result.notes;
  if (options.observed) {
    json["ring_accesses"] = result.ring_accesses;
    json["ring_violations"] = result.ring_violations;
  }
  json["mode"] = options.poll ? "poll" : "interrupt";
  json["size"] = options.sizes.shortest;
  json["longest"] = options.sizes.longest;
  return json;
}

std::string to_text(const TrafficResult& result, const TrafficOptions& options) {
  std::string text =
      fmt::format("frames      {} sent, {} received, {} lost, {} corrupt, {} duplicated, {} out of order\n",
                  result.sent, result.received, result.lost, result.corrupt, result.duplicated, result.reordered);
  if (options.poll) {
    text += "mode        polled\n";
  } else {
    text += fmt::format("mode        by interrupt: {} interrupts, {} wake-ups, {} bottom halves", result.interrupts,
                        result.wakeups, result.bottom_halves);
    text += result.cpus.empty() ? "\n" : fmt::format(" on CPU {}\n", fmt::join(result.cpus, ", "));
  }
  text += fmt::format("rings       {} kicks, {} spared; {} indirect chains; {} merged frames; {} queue pairs\n",
                      result.kicks, result.kicks_suppressed, result.indirect_chains, result.merged_frames,
                      result.queue_pairs);
  if (options.observed) {
    text += fmt::format("observed    {} accesses, {} breaches of the driver's part\n", result.ring_accesses,
                        result.ring_violations);
  }
  if (result.captured) text += fmt::format("captured    {} frames\n", *result.captured);
  for (const std::string& note : result.notes) text += fmt::format("note        {}\n", note);
  const double rate = result.seconds > 0 ? static_cast<double>(result.received) / result.seconds : 0;
  const std::string sizes = options.sizes.longest == options.sizes.shortest
                                ? fmt::format("{}", options.sizes.shortest)
                                : fmt::format("{} to {}", options.sizes.shortest, options.sizes.longest);
  text += fmt::format("time        {:.3f} s, {:.0f} frames of {} bytes a second\n", result.seconds, rate, sizes);
  return text;
}

/// The result of a test that could not be run, or not to its end.
TrafficResult stopped(Error error) {
  TrafficResult result;
  result.error = std::move(error);
  return result;
}

TrafficResult run_traffic(Session& session, const TrafficOptions& options,
                          const std::shared_ptr<virtio_net::Capture>& capture) {
  std::vector<virtio_net::Nic*> nics;
  for (const auto& device : session.devices()) {
    device::Bound* bound = session.context().bound(*device);
    virtio_net::Nic* nic = bound == nullptr ? nullptr : device::find<virtio_net::Nic>(*bound);
    if (nic == nullptr) { return stopped(fail(Errc::kNoDriver, device->name() + " is no network card").error()); }
    nics.push_back(nic);
  }
  for (virtio_net::Nic* nic : nics) nic->set_capture(capture);
  auto result = tool::run_traffic(session.engine(), nics, options);
  for (virtio_net::Nic* nic : nics) nic->set_capture({});
  TrafficResult done = result ? std::move(*result) : stopped(std::move(result).error());
  if (capture != nullptr) {
    done.captured = capture->frames();
    if (auto written = capture->finish(); !written && !done.error) done.error = std::move(written).error();
  }
  return done;
}

ExitCode run(const CLI::App& command, const Options& options, Interruption& interruption) {
  apply(options.common);
  const auto request = check(options);
  if (!request) return usage_error(command, request.error());
  std::shared_ptr<virtio_net::Capture> capture;
  if (!request->capture.empty()) {
    auto made = virtio_net::Capture::create(request->capture);
    if (!made) return fail_command(made.error(), options.common.json);
    capture = std::move(*made);
  }
  auto session = Session::create();
  if (!session) return fail_command(session.error(), options.common.json);

  const ProbeRequest& probe = request->probe;
  const std::vector<device::Report> reports = (*session)->probe(probe.uris, probe.timeout, interruption);
  ExitCode code = exit_code_of(reports);
  const bool all_bound = code == ExitCode::kDone && Interruption::signal() == 0;
  TrafficResult result;
  if (all_bound) {
    const OnInterruption give_up(interruption, [&] { (*session)->abandon(); });
    result = run_traffic(**session, request->traffic, capture);
  }
  (*session)->add_evidence(result.notes, result.error || result.lost + result.corrupt > 0);
  (*session)->give_back_withdrawn(result.notes);
  if (Interruption::signal() != 0) return ExitCode::kError;

  if (result.error) code = worse(code, give_up(*result.error));
  if (result.lost + result.corrupt + result.duplicated + result.ring_violations > 0)
    code = worse(code, ExitCode::kError);
  if (!options.common.json) {
    return worse(code, print_text(tool::to_text(reports) + (all_bound ? to_text(result, request->traffic) : "")));
  }
  Json json = to_json(result, request->traffic);
  json["devices"] = tool::to_json(reports);
  add_error(json, result.error ? &*result.error : nullptr);
  return worse(code, print_document(json));
}

}  // namespace

void add_net_command(CLI::App& app, Invocation& invocation) {
  CLI::App* net = app.add_subcommand("net", "Network cards");
  net->require_subcommand(1);
  CLI::App* command = net->add_subcommand("test", "Pass checked frames over one card and back, or between two");
  auto options = std::make_shared<Options>();
  command->add_option("URI", options->probe.uris, "One device, or two")->required()->type_name("")->expected(1, -1);
  command->add_option("--frames", options->frames, "How many, each way")->required()->type_name("N");
  command
      ->add_option("--size", options->size,
                   fmt::format("Of a frame, {} to {}; or a range, 60-9000, over which lengths are spread",
                               kSmallestFrame, kLargestFrame))
      ->type_name("BYTES")
      ->capture_default_str();
  command->add_flag("--poll", options->poll, "Look at the rings instead of waiting for interrupts");
  command->add_option("--idle", options->idle, "When nothing has moved for so long, the rest is lost")
      ->type_name("DURATION")
      ->capture_default_str();
  command
      ->add_option("--capture", options->capture,
                   "Write all frames to this file (pcap-ng), with what the rings knew of each")
      ->type_name("FILE");
  add_probe_options(*command, options->probe);
  add_common_options(*command, options->common);
  command->footer(std::string(kHelp) + device_help());
  command->callback([&invocation, options, command] {
    invocation.action = [&invocation, options, command] { return run(*command, *options, *invocation.interruption); };
  });
}

}  // namespace upci::tool
