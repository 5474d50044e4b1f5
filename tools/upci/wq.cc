// SPDX-License-Identifier: Apache-2.0
// upci wq: looks into the workqueue engine of a running process, and changes it.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "tools/upci/command.h"
#include "tools/upci/numbers.h"
#include "tools/upci/output.h"
#include "tools/upci/wq_client.h"
#include "tools/upci/wq_text.h"
#include "workqueue/control.h"

namespace upci::tool {
namespace {

constexpr std::string_view kWho =
    "PID is a process of the same user (root may look into all) whose engine serves a control socket, as 'upci probe' "
    "and\n"
    "'upci net test' do; 1234.1 is its second engine. Without PID: the only one there is.\n";
constexpr std::string_view kDumpHelp =
    "Pools, workqueues with their attributes and counters, busy workers and, where it is measured, how long items wait "
    "and\n"
    "run. Columns as in the kernel's wq_dump.py.\n\n"
    "Examples:\n"
    "  upci wq dump\n"
    "  upci wq dump 1234 --json\n\n";
constexpr std::string_view kTopHelp =
    "The columns are those of the kernel's wq_monitor.py:\n"
    "  total    items started            CPUitsv  items that computed past the hog threshold\n"
    "  infl     items in flight          CMW/RPR  workers woken since one blocked / brought back into their pod "
    "(unbound)\n"
    "  CPUtime  their CPU time, seconds  mayday   calls for the rescuer      rescued  items that it ran\n"
    "'-' where it does not apply. CPUtime is sampled while an item runs: short items count nothing.\n\n"
    "Examples:\n"
    "  upci wq top\n"
    "  upci wq top 1234 --interval 500ms --count 10\n"
    "  upci wq top 1234 --count 2 --json\n\n";
constexpr std::string_view kSetHelp =
    "Keys: max_active, min_active (1 to 2048), and of unbound workqueues nice (-20 to 19), cpumask (0-3,8),\n"
    "affinity_scope (default, cpu, smt, cache, cache_shard, numa, system), affinity_strict (0, 1). As in the kernel "
    "only\n"
    "those workqueues can be changed that ask for it (kWqSysfs). WORKQUEUE is its name, #N the one with that number; "
    "the\n"
    "word unbound stands for the engine, whose cpumask keeps all unbound workqueues.\n\n"
    "Examples:\n"
    "  upci wq set 1234 crypto max_active=4 nice=-5\n"
    "  upci wq set 1234 '#12' cpumask=0-3 affinity_scope=numa\n"
    "  upci wq set 1234 unbound cpumask=0-7\n\n";
constexpr std::string_view kTraceHelp =
    "Writes what the engine does meanwhile as JSON that https://ui.perfetto.dev opens: a track for each thread, a "
    "slice for\n"
    "each run, an arrow from each queueing to its run. Ends after the time given, or by Ctrl-C.\n\n"
    "Examples:\n"
    "  upci wq trace 1234 trace.json\n"
    "  upci wq trace 1234 trace.json --seconds 30\n\n";
constexpr std::string_view kLatencyHelp =
    "While it is on, dump and top show for each function how long its items wait from their queueing to their start, "
    "and how\n"
    "long they run. Costs some 50 ns for each item. On begins anew.\n\n"
    "Examples:\n"
    "  upci wq latency 1234 on\n"
    "  upci wq latency 1234 off\n\n";

struct Options {
  CommonOptions common;
  std::string target;
  std::string interval = "1s";
  std::string count;
  std::string seconds = "5";
  std::string workqueue;
  std::vector<std::string> changes;
  std::string file;
  std::string state;
};

/// Sleeps, but not beyond a signal. False when one came.
bool wait_for(platform::Nanoseconds span) {
  const Deadline deadline = Deadline::after(span);
  while (!deadline.expired() && Interruption::signal() == 0) {
    platform::this_thread::sleep_until(
        Deadline::after(std::chrono::milliseconds(20)).at_most(deadline.remaining()).when());
  }
  return Interruption::signal() == 0;
}

/// The one that is meant. A wrong or missing choice is a mistake in the command line (kInvalid).
Result<WqTarget> choose(const std::string& text) {
  std::optional<WqTarget> wanted;
  if (!text.empty()) { UPCI_TRY_ASSIGN(wanted, parse_wq_target(text)); }
  if (wanted && text.find('.') != std::string::npos) return *wanted;
  std::vector<WqTarget> found = find_wq_targets();
  if (wanted) std::erase_if(found, [&](const WqTarget& target) { return target.pid != wanted->pid; });
  if (found.size() == 1) return found.front();
  if (found.empty()) {
    if (wanted) return *wanted;  // connecting to it tells why not
    return fail(Errc::kUnavailable, "no process serves a control socket",
                "a program does by Engine::serve_control(); only those of the same user are seen");
  }
  std::string list;
  for (const WqTarget& target : found)
    list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", target.name(), target.program);
  return fail(Errc::kInvalid, "several engines could be meant", "name one of: " + list);
}

Result<WqClient> open(const Options& options) {
  UPCI_TRY_ASSIGN(const WqTarget target, choose(options.target));
  return WqClient::connect(target);
}

/// As text. What a foreign process sends may be anything.
template <class F>
ExitCode print_as(F to_text, const Json& dump) {
  try {
    return print_text(to_text(dump));
  } catch (const Json::exception&) {
    return give_up({.code = Errc::kSystem,
                    .what = "the process's answer lacks something",
                    .advice = "it may be of another version"});
  }
}

ExitCode dump(const CLI::App&, const Options& options) {
  auto client = open(options);
  if (!client) return give_up(client.error());
  const auto json = client->ask_json({"dump"});
  if (!json) return give_up(json.error());
  return options.common.json ? print_document(*json) : print_as(wq_dump_text, *json);
}

ExitCode top(const CLI::App& command, const Options& options) {
  const auto interval = parse_duration("--interval", options.interval);
  if (!interval) return usage_error(command, interval.error());
  std::uint64_t count = options.common.json ? 1 : UINT64_MAX;
  if (!options.count.empty()) {
    const auto parsed = parse_count("--count", options.count, 1, 1'000'000'000);
    if (!parsed) return usage_error(command, parsed.error());
    count = *parsed;
  }
  auto client = open(options);
  if (!client) return give_up(client.error());
  Json samples = Json::array();
  const bool screen = ::isatty(STDOUT_FILENO) == 1 && !options.common.json;
  for (std::uint64_t i = 0; i < count; i++) {
    if (i != 0 && !wait_for(*interval)) return ExitCode::kError;
    auto json = client->ask_json({"dump"});
    if (!json) return give_up(json.error());
    if (options.common.json) {
      samples.push_back(std::move(*json));
      continue;
    }
    const auto with_gap = [&](const Json& shot) {
      return (screen ? "\033[H\033[2J" : i == 0 ? "" : "\n") + wq_top_text(shot);
    };
    if (const ExitCode code = print_as(with_gap, *json); code != ExitCode::kDone) return code;
  }
  if (!options.common.json) return ExitCode::kDone;
  Json document = tool::document();
  document["samples"] = std::move(samples);
  return print_document(document);
}

/// Asks for something that has no answer but "ok".
ExitCode tell(const Options& options, const std::vector<std::string>& fields) {
  auto client = open(options);
  if (!client) return give_up(client.error());
  if (const auto done = client->ask(fields); !done) return give_up(done.error());
  return options.common.json ? print_document(document()) : ExitCode::kDone;
}

ExitCode set(const CLI::App& command, const Options& options) {
  const auto change = parse_control_change(options.changes);
  if (!change) return usage_error(command, change.error());
  const bool engine = options.workqueue == "unbound";
  if (engine && (options.changes.size() != 1 || !change->cpumask)) {
    return usage_error(command, {.code = Errc::kInvalid, .what = "of the engine only cpumask can be changed"});
  }
  std::vector<std::string> fields =
      engine ? std::vector<std::string>{"unbound"} : std::vector<std::string>{"set", options.workqueue};
  fields.insert(fields.end(), options.changes.begin(), options.changes.end());
  return tell(options, fields);
}

ExitCode latency(const CLI::App& command, const Options& options) {
  if (options.state != "on" && options.state != "off") {
    return usage_error(command,
                       {.code = Errc::kInvalid, .what = fmt::format("'{}' is neither on nor off", options.state)});
  }
  return tell(options, {"latency", options.state});
}

ExitCode trace(const CLI::App& command, const Options& options) {
  const auto seconds = parse_count("--seconds", options.seconds, 1, 86400);
  if (!seconds) return usage_error(command, seconds.error());
  auto client = open(options);
  if (!client) return give_up(client.error());
  // This process opens it, so that the file is made with this user's rights and in this folder.
  const UniqueFd file(::open(options.file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) return give_up(fail_errno("opening " + options.file, "name a file that can be written").error());
  if (const auto begun = client->ask({"trace", "start"}, file.get()); !begun) return give_up(begun.error());
  if (!wait_for(std::chrono::seconds(*seconds))) Interruption::take();  // it ends the recording, not what comes after
  client->set_patience(120);
  const auto summary = client->ask_json({"trace", "stop"});
  if (!summary) return give_up(summary.error());
  if (options.common.json) return print_document(*summary);
  return print_text(fmt::format("{}: {} events, {} dropped; open it at https://ui.perfetto.dev\n", options.file,
                                summary->value("events", 0), summary->value("dropped", 0)));
}

using Action = ExitCode (*)(const CLI::App&, const Options&);

CLI::App* add(CLI::App& wq, Invocation& invocation, const std::shared_ptr<Options>& options, const char* name,
              const char* about, std::string_view help, Action action) {
  CLI::App* command = wq.add_subcommand(name, about);
  add_common_options(*command, options->common);
  command->footer(std::string(help) + std::string(kWho));
  command->callback([&invocation, options, command, action] {
    invocation.action = [options, command, action] {
      apply(options->common);
      const ExitCode code = action(*command, *options);
      return code;
    };
  });
  return command;
}

}  // namespace

void add_wq_command(CLI::App& app, Invocation& invocation) {
  CLI::App* wq = app.add_subcommand("wq", "Look into the workqueues of a running process, and change them");
  wq->require_subcommand(1);
  wq->footer("Examples:\n  upci wq top\n  upci wq dump 1234\n  upci wq set 1234 crypto max_active=4");
  const auto options = std::make_shared<Options>();
  CLI::App* command = add(*wq, invocation, options, "top", "Show the counters again and again", kTopHelp, top);
  command->add_option("PID", options->target, "The process")->type_name("");
  command->add_option("--interval", options->interval, "Time between two looks (1s)")->type_name("DURATION");
  command->add_option("--count", options->count, "How many looks; without it: until interrupted, and one with --json")
      ->type_name("N");
  command = add(*wq, invocation, options, "dump", "Show everything once", kDumpHelp, dump);
  command->add_option("PID", options->target, "The process")->type_name("");
  command = add(*wq, invocation, options, "set", "Change a workqueue", kSetHelp, set);
  command->add_option("PID", options->target, "The process")->type_name("")->required();
  command->add_option("WORKQUEUE", options->workqueue, "Its name")->type_name("")->required();
  command->add_option("KEY=VALUE", options->changes, "What to change")->type_name("")->required()->expected(1, -1);
  command = add(*wq, invocation, options, "trace", "Record a trace for Perfetto", kTraceHelp, trace);
  command->add_option("PID", options->target, "The process")->type_name("")->required();
  command->add_option("FILE", options->file, "What to write")->type_name("")->required();
  command->add_option("--seconds", options->seconds, "How long (5)")->type_name("N");
  command = add(*wq, invocation, options, "latency", "Measure how long items wait and run", kLatencyHelp, latency);
  command->add_option("PID", options->target, "The process")->type_name("")->required();
  command->add_option("STATE", options->state, "on or off")->type_name("")->required();
}

}  // namespace upci::tool
