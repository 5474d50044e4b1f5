// SPDX-License-Identifier: Apache-2.0
// A benchmark program: its cases by turns, one table and one JSON file.
#include <fmt/format.h>

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "bench/engine/case.h"
#include "bench/engine/report.h"
#include "bench/engine/runner.h"

namespace {

/// A name, or the beginning of one up to a hyphen: `throughput` is all that begin with `throughput-`.
bool is_wanted(const std::string& name, const std::vector<std::string>& wanted) {
  return wanted.empty() || std::any_of(wanted.begin(), wanted.end(), [&name](const std::string& one) {
           return name == one || name.starts_with(one + "-");
         });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(bench::kDescription);
  int pairs = 10;
  bool list = false;
  std::string json_file;
  std::vector<std::string> wanted;
  std::string only;
  app.add_option("--pairs", pairs, "how often each contestant is measured")->check(CLI::Range(1, 1000));
  app.add_option("--json", json_file, "where everything, each sample included, is written");
  app.add_flag("--list", list, "only name the cases");
  app.add_option("--only", only, "measure one contestant alone, by name: for a profiler; nothing is compared then");
  app.add_option("CASE", wanted, "which cases, by name or by the part before a hyphen; all when none is named");
  CLI11_PARSE(app, argc, argv);

  std::vector<bench::Case> cases = bench::all_cases();
  for (bench::Case& one : cases) {
    if (only.empty()) break;
    std::erase_if(one.contestants, [&only](const bench::Contestant& contestant) { return contestant.name != only; });
    one.targets.clear();
  }
  if (list) {
    for (const bench::Case& one : cases) fmt::print("{:<20} {}\n", one.name, one.title);
    return 0;
  }
  for (const std::string& one : wanted) {
    if (std::none_of(cases.begin(), cases.end(), [&one](const bench::Case& c) { return is_wanted(c.name, {one}); })) {
      fmt::print(stderr, "{}: there is no case {}; --list names them\n", argv[0], one);
      return 2;
    }
  }
  nlohmann::ordered_json json{
      {"machine", bench::machine()}, {"pairs", pairs}, {"cases", nlohmann::ordered_json::array()}};
  for (const bench::Case& one : cases) {
    if (!is_wanted(one.name, wanted) || one.contestants.empty()) continue;
    const bench::Result result = bench::run_case(one, pairs, [&](int round) {
      if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r{} {}/{} ", one.name, round + 1, pairs);
    });
    if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r{:40}\r", "");
    fmt::print("{}\n", bench::text_of(result));
    std::fflush(stdout);
    json["cases"].push_back(bench::json_of(result));
  }
  if (json_file.empty()) return 0;
  std::ofstream file(json_file);
  file << json.dump(1) << '\n';
  if (file.flush()) return 0;
  fmt::print(stderr, "{}: cannot write {}: name a folder that exists and that you may write to\n", argv[0], json_file);
  return 1;
}
