// SPDX-License-Identifier: Apache-2.0
// upci blk test: random operations on a disk, checked by content.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tools/upci/blk_workload.h"
#include "tools/upci/command.h"
#include "tools/upci/numbers.h"
#include "tools/upci/output.h"
#include "tools/upci/probe_options.h"
#include "tools/upci/report_output.h"
#include "tools/upci/session.h"

namespace upci::tool {
namespace {

constexpr std::string_view kHelp =
    "By default nothing is written: places all over the disk are read twice, and what the two reads give must be "
    "equal.\n"
    "With --destroy-contents what is on the disk is LOST: random writes and reads, checked byte by byte, flushes, "
    "zeroes "
    "and\n"
    "discards where the disk has them, and at the end all that was written is read back. A disk that is mounted cannot "
    "be\n"
    "reached: 'upci bind' does not take a function whose disk is in use. qemu: disks without disk=PATH are scratch "
    "disks, "
    "but\n"
    "even these are not written to unasked.\n"
    "\n"
    "Exit code: 1 where any read gave wrong contents, an operation failed, or the driver broke a rule of the rings\n"
    "(--observed); 3 where the disk did not answer within --limit; else as for upci probe.\n"
    "\n"
    "Examples:\n"
    "  upci blk test qemu:virtio-blk-pci\n"
    "  upci blk test qemu:virtio-blk-pci,num-queues=4 --destroy-contents --requests 10000 --json\n"
    "  upci blk test qemu:virtio-blk-pci,disable-legacy=on,packed=on,disk=scratch.img --destroy-contents --size 65536\n"
    "  upci blk test 0000:41:00.0 --requests 100 --poll\n"
    "\n";

constexpr std::uint64_t kMostRequests = 1'000'000'000;
constexpr std::uint64_t kMostBytes = 16 << 20;
constexpr std::uint64_t kMostDepth = 256;
constexpr std::uint32_t kSector = 512;

struct Options {
  CommonOptions common;
  ProbeOptions probe;
  std::string uri;
  std::string requests = "1000";
  std::string size = "4096";
  std::string depth = "8";
  std::string seed = "1";
  std::string limit = "10s";
  bool destroy = false;
  bool read_only = false;
  bool poll = false;
};

struct Request {
  ProbeRequest probe;
  WorkloadOptions workload;
};

Result<Request> check(Options options) {
  Request request;
  WorkloadOptions& workload = request.workload;
  UPCI_TRY_ASSIGN(workload.requests, parse_count("--requests", options.requests, 1, kMostRequests));
  UPCI_TRY_ASSIGN(const std::uint64_t size, parse_count("--size", options.size, kSector, kMostBytes));
  if (size % kSector != 0) {
    return fail(Errc::kInvalid, fmt::format("--size: {} is no multiple of {}", size, kSector));
  }
  workload.size = static_cast<std::uint32_t>(size);
  UPCI_TRY_ASSIGN(const std::uint64_t depth, parse_count("--depth", options.depth, 1, kMostDepth));
  workload.depth = static_cast<std::uint32_t>(depth);
  UPCI_TRY_ASSIGN(workload.seed, parse_count("--seed", options.seed, 0, std::numeric_limits<std::uint64_t>::max()));
  UPCI_TRY_ASSIGN(workload.limit, parse_duration("--limit", options.limit));
  if (options.destroy && options.read_only) {
    return fail(Errc::kInvalid, "--destroy-contents and --read-only contradict each other", "leave one of them out");
  }
  workload.destroy = options.destroy;
  workload.poll = options.poll;
  options.probe.uris = {options.uri};
  UPCI_TRY_ASSIGN(request.probe, check(options.probe));
  return request;
}

/// What the test found out; `stats` and `info` are empty where it did not come so far.
struct Outcome {
  bool found = false;  // the device is a disk
  WorkloadResult result;
  virtio_blk::DiskInfo info;
  virtio_blk::DiskStats stats;
  std::string serial;
  std::uint64_t capacity = 0;
};

Outcome test(Session& session, const Request& request) {
  Outcome outcome;
  device::Bound* bound = session.context().bound(*session.devices().front());
  virtio_blk::Disk* disk = bound == nullptr ? nullptr : device::find<virtio_blk::Disk>(*bound);
  if (disk == nullptr) {
    outcome.result.error =
        fail(Errc::kNoDriver, request.probe.uris.front().text + " is no disk", "name one, such as qemu:virtio-blk-pci")
            .error();
    return outcome;
  }
  outcome.found = true;
  outcome.info = disk->info();
  outcome.capacity = disk->capacity();
  // A disk need not have a name.
  if (auto serial = disk->serial(Deadline::after(request.workload.limit))) outcome.serial = std::move(*serial);
  outcome.result = run_workload(*disk, request.workload);
  outcome.stats = disk->stats();
  return outcome;
}

Json disk_json(const Outcome& outcome) {
  const virtio_blk::DiskInfo& info = outcome.info;
  return {{"capacity_sectors", outcome.capacity},
          {"serial", or_null(outcome.serial)},
          {"block_size", info.block_size},
          {"max_transfer_bytes", info.max_transfer},
          {"size_max", info.size_max},
          {"seg_max", info.seg_max},
          {"read_only", info.read_only},
          {"write_cache", info.write_cache},
          {"flush", info.flush},
          {"discard", info.discard},
          {"max_discard_sectors", info.max_discard_sectors},
          {"write_zeroes", info.write_zeroes},
          {"max_write_zeroes_sectors", info.max_write_zeroes_sectors},
          {"cylinders", info.geometry.cylinders},
          {"heads", info.geometry.heads},
          {"sectors", info.geometry.sectors},
          {"physical_block_size",
           std::uint64_t{info.block_size} << std::min<unsigned>(info.topology.physical_block_exp, 31U)},
          {"device_queues", info.device_queues},
          {"queues", info.queues}};
}

Json to_json(const Outcome& outcome, const WorkloadOptions& options, bool observed) {
  const WorkloadResult& result = outcome.result;
  Json json = document();
  json["reads"] = result.reads;
  json["writes"] = result.writes;
  json["flushes"] = result.flushes;
  json["discards"] = result.discards;
  json["write_zeroes"] = result.zeroes;
  json["bytes_read"] = result.bytes_read;
  json["bytes_written"] = result.bytes_written;
  json["errors"] = result.errors;
  json["corrupt"] = result.corrupt;
  json["batch_latency_us"] = {{"min", result.batch_us.min},
                              {"median", result.batch_us.median},
                              {"p99", result.batch_us.p99},
                              {"max", result.batch_us.max}};
  json["seconds"] = result.seconds;
  json["requests_submitted"] = outcome.stats.requests.submitted;
  json["kicks"] = outcome.stats.requests.kicks;
  json["interrupts"] = outcome.stats.interrupts.interrupts;
  json["cpus"] = outcome.stats.interrupts.cpus;
  if (observed) {
    json["ring_accesses"] = outcome.stats.requests.ring_accesses;
    json["ring_violations"] = outcome.stats.requests.ring_violations;
  }
  json["mode"] = options.poll ? "poll" : "interrupt";
  json["destroy_contents"] = options.destroy;
  json["size"] = options.size;
  json["depth"] = options.depth;
  json["seed"] = options.seed;
  json["disk"] = disk_json(outcome);
  return json;
}

std::string to_text(const Outcome& outcome, const WorkloadOptions& options, bool observed) {
  const WorkloadResult& result = outcome.result;
  std::string text = fmt::format("disk        {} sectors of 512 bytes, blocks of {}, {} of {} queues{}{}\n",
                                 outcome.capacity, outcome.info.block_size, outcome.info.queues,
                                 outcome.info.device_queues, outcome.info.read_only ? ", read-only" : "",
                                 outcome.serial.empty() ? "" : ", named " + outcome.serial);
  text += fmt::format("requests    {} reads, {} writes, {} flushes, {} zeroes, {} discards; {} errors, {} corrupt\n",
                      result.reads, result.writes, result.flushes, result.zeroes, result.discards, result.errors,
                      result.corrupt);
  text += options.poll
              ? std::string("mode        polled\n")
              : fmt::format("mode        by interrupt: {} interrupts on CPU {}\n", outcome.stats.interrupts.interrupts,
                            fmt::join(outcome.stats.interrupts.cpus, ", "));
  if (observed) {
    text += fmt::format("rings       {} accesses observed, {} breaches of the driver's part\n",
                        outcome.stats.requests.ring_accesses, outcome.stats.requests.ring_violations);
  }
  text += fmt::format("time        {:.3f} s; batches of up to {} took {:.0f} us (median), {:.0f} us (p99)\n",
                      result.seconds, options.depth, result.batch_us.median, result.batch_us.p99);
  return text;
}

ExitCode run(const CLI::App& command, const Options& options, Interruption& interruption) {
  apply(options.common);
  const auto request = check(options);
  if (!request) return usage_error(command, request.error());
  auto session = Session::create();
  if (!session) return fail_command(session.error(), options.common.json);

  const ProbeRequest& probe = request->probe;
  const std::vector<device::Report> reports = (*session)->probe(probe.uris, probe.timeout, interruption);
  ExitCode code = exit_code_of(reports);
  const bool bound = code == ExitCode::kDone && Interruption::signal() == 0;
  Outcome outcome;
  if (bound) {
    const OnInterruption give_up(interruption, [&] { (*session)->abandon(); });
    outcome = test(**session, *request);
  }
  if (Interruption::signal() != 0) return ExitCode::kError;

  const WorkloadResult& result = outcome.result;
  if (result.error) code = worse(code, give_up(*result.error));
  if (result.errors + result.corrupt + outcome.stats.requests.ring_violations > 0) code = worse(code, ExitCode::kError);
  if (!options.common.json) {
    return worse(code, print_text(tool::to_text(reports) +
                                  (outcome.found ? to_text(outcome, request->workload, options.probe.observed) : "")));
  }
  Json json = to_json(outcome, request->workload, options.probe.observed);
  json["devices"] = tool::to_json(reports);
  add_error(json, result.error ? &*result.error : nullptr);
  return worse(code, print_document(json));
}

}  // namespace

void add_blk_command(CLI::App& app, Invocation& invocation) {
  CLI::App* blk = app.add_subcommand("blk", "Disks");
  blk->require_subcommand(1);
  blk->footer("Examples:\n  upci blk test qemu:virtio-blk-pci\n  upci help blk test");
  CLI::App* command = blk->add_subcommand("test", "Read from all over a disk, or overwrite it, and check every byte");
  auto options = std::make_shared<Options>();
  command->add_option("URI", options->uri, "The disk")->required()->type_name("");
  command->add_option("--requests", options->requests, "How many reads and writes")
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--size", options->size, "Of each, a multiple of the disk's block size")
      ->type_name("BYTES")
      ->capture_default_str();
  command->add_option("--depth", options->depth, "How many at the same time")->type_name("N")->capture_default_str();
  command->add_option("--seed", options->seed, "Of places and contents: the same seed does the same")
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--destroy-contents", options->destroy, "Write, too: what is on the disk is lost");
  command->add_flag("--read-only", options->read_only, "Write nothing (the default)");
  command->add_flag("--poll", options->poll, "Look at the rings instead of waiting for interrupts");
  command->add_option("--limit", options->limit, "What has not ended by then is given up: the disk is stuck")
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
