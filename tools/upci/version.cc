// SPDX-License-Identifier: Apache-2.0
// upci version: what this program is made of and what it can do.
#include <fmt/format.h>
#include <spdlog/version.h>

#include <memory>

#include "base/platform.h"
#include "tools/upci/build_info.h"
#include "tools/upci/command.h"
#include "tools/upci/output.h"

namespace upci::tool {
namespace {

constexpr std::string_view kHelp =
    "Tiers are the ways in which a worker pool can notice that one of its workers blocks: framework_waits (sleeps, "
    "mutexes\n"
    "and completions of the library tell the pool), scheduler_records (the kernel's context-switch records tell of "
    "any\n"
    "other wait), schedstat_sampling (thread statistics are sampled). What is false does not work here, or not\n"
    "for this user; an engine chooses the best that does (upci wq dump shows why it was no better one).\n"
    "\n"
    "Examples:\n"
    "  upci version\n"
    "  upci version --json";

// fmt keeps its version as 90100, spdlog as 1.10.0 in parts.
std::string fmt_version() {
  return fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100);
}

Json describe() {
  Json json = document();
  json["version"] = kVersion;
  json["build_type"] = kBuildType;
  json["compiler"] = kCompiler;
  json["sanitizer"] = kSanitizer.empty() ? Json(nullptr) : Json(kSanitizer);
  json["libraries"] = {
      {"CLI11", CLI11_VERSION},
      {"elfutils", kElfutilsVersion},
      {"fmt", fmt_version()},
      {"hwloc", kHwlocVersion},
      {"libpciaccess", kPciaccessVersion},
      {"libunwind", kUnwindVersion},
      {"nlohmann-json",
       fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
      {"spdlog", fmt::format("{}.{}.{}", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
  };
  // What works here, for this user: the best of them is what an Engine chooses.
  json["tiers"] = {{"framework_waits", true},
                   {"scheduler_records", platform::SwitchWatch::self_test().has_value()},
                   {"schedstat_sampling", platform::ThreadProbe::open(platform::this_thread::id()).has_value()}};
  json["usdt"] = kUsdt;
  json["ring_access"] = {"plain", "observed"};
  json["schemes"] = {{"emu", true}, {"qemu", true}, {"vfio", true}};
  return json;
}

/// The names that are true, and those that are not, as "a, b (not: c)".
std::string yes_and_no(const Json& words) {
  std::string yes;
  std::string no;
  for (const auto& [word, there] : words.items()) {
    std::string& list = there.get<bool>() ? yes : no;
    list += (list.empty() ? "" : ", ") + word;
  }
  return no.empty() ? yes : fmt::format("{} (not: {})", yes, no);
}

std::string to_text(const Json& json) {
  std::string text = fmt::format("upci {} ({}, {}{})\n", kVersion, kBuildType, kCompiler,
                                 kSanitizer.empty() ? "" : fmt::format(", sanitizer: {}", kSanitizer));
  text += "libraries:";
  for (const auto& [name, version] : json["libraries"].items()) {
    text += fmt::format(" {} {}", name, version.get<std::string>());
  }
  text += fmt::format("\nblocking is noticed by: {}\nschemes: {}\ntracepoints (USDT): {}\n", yes_and_no(json["tiers"]),
                      yes_and_no(json["schemes"]), kUsdt ? "yes" : "no: <sys/sdt.h> was not there at build time");
  return text;
}

}  // namespace

void add_version_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("version", "Say what this program is made of");
  command->footer(std::string(kHelp));
  auto common = std::make_shared<CommonOptions>();
  add_common_options(*command, *common);
  command->callback([&invocation, common] {
    invocation.action = [common] {
      const Json json = describe();
      return common->json ? print_document(json) : print_text(to_text(json));
    };
  });
}

}  // namespace upci::tool
