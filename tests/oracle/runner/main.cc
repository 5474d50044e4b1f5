// SPDX-License-Identifier: Apache-2.0
// oracle_runner: asks the kernel or the engine what a script of workqueue operations does. tests/oracle/README.md.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "base/log.h"
#include "tests/oracle/runner/bundle.h"
#include "tests/oracle/runner/session.h"

namespace {

using namespace upci;
using namespace upci::oracle;

struct Options {
  std::string kernel;       // the module's device; empty: the engine
  std::string write;        // a file for the transcripts
  bool replay = false;      // the files are transcripts: what is in them is expected
  std::string differences;  // with replay: what the engine does otherwise, on purpose
  bool progress = false;    // name each script before it runs
  unsigned quiet_ms = 15;
  unsigned longest_ms = 3000;
  std::vector<std::string> files;
};

Result<std::unique_ptr<Subject>> make_subject(const Options& options) {
  return options.kernel.empty() ? make_engine_subject() : open_kernel(options.kernel);
}

/// Runs one script; true when it ran and, with `replay`, was as expected.
bool run_one(const Options& options, const Entry& entry, const std::vector<std::string>& wanted,
             std::vector<Entry>& transcripts) {
  const Patience patience{.quiet = std::chrono::milliseconds(options.quiet_ms),
                          .blocked = std::chrono::milliseconds(options.quiet_ms) * 4,
                          .longest = std::chrono::milliseconds(options.longest_ms)};
  auto outcome =
      run_in_time(entry.text(), [&] { return make_subject(options); }, patience, options.replay ? &wanted : nullptr);
  if (!outcome) {
    std::cout << entry.name << ": " << outcome.error().message() << "\n";
    return false;
  }
  if (!outcome->difference.empty()) {
    std::cout << entry.name << ": differs: " << outcome->difference << std::flush;
    return false;
  }
  if (options.replay) std::cout << entry.name << ": as expected\n";
  transcripts.push_back({entry.name, std::move(outcome->transcript)});
  return true;
}

int run(const Options& options) {
  std::vector<Entry> transcripts;
  std::map<std::string, std::vector<std::string>> differences;
  if (!options.differences.empty()) {
    auto entries = read_bundle(options.differences);
    if (!entries) {
      std::cerr << "oracle_runner: " << entries.error().message() << "\n";
      return 2;
    }
    for (Entry& entry : *entries) differences.emplace(entry.name, std::move(entry.lines));
  }
  unsigned failed = 0;
  for (const std::string& file : options.files) {
    auto entries = read_bundle(file);
    if (!entries) {
      std::cerr << "oracle_runner: " << entries.error().message() << "\n";
      return 2;
    }
    for (const Entry& entry : *entries) {
      if (options.progress) std::cerr << "... " << entry.name << std::endl;
      const auto different = differences.find(entry.name);
      if (!run_one(options, entry, different == differences.end() ? entry.lines : different->second, transcripts))
        failed++;
    }
  }
  if (!options.write.empty()) {
    if (auto written = write_bundle(options.write, transcripts); !written) {
      std::cerr << "oracle_runner: " << written.error().message() << "\n";
      return 1;
    }
  } else if (!options.replay) {
    for (const Entry& entry : transcripts) std::cout << "=== " << entry.name << "\n" << entry.text();
  }
  std::cerr << transcripts.size() << " ran, " << failed << " failed\n";
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Runs scripts of workqueue operations on this library's engine, or on the kernel by its module, and prints what "
      "they did.");
  app.add_option("--kernel", options.kernel, "the device of upci_oracle.ko; without it the engine runs the scripts")
      ->type_name("DEVICE");
  app.add_option("--write", options.write, "write all transcripts to this file")->type_name("FILE");
  app.add_flag("--replay", options.replay,
               "the files are transcripts; stop each at the first line that has another effect");
  app.add_option("--differences", options.differences,
                 "with --replay: transcripts to expect instead, of scripts on which the "
                 "engine is meant to differ from the kernel")
      ->type_name("FILE");
  app.add_flag("--progress", options.progress, "name each script before it runs");
  app.add_option("--quiet-ms", options.quiet_ms,
                 "without --replay: a line has had its effect after so long without an event")
      ->capture_default_str();
  app.add_option("--longest-ms", options.longest_ms, "with --replay: how long to wait for the effect")
      ->capture_default_str();
  app.add_option("files", options.files, "scripts (*.wq) or files of several, each after a line '=== NAME'")
      ->required();
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const std::exception& error) {
    std::cerr << "oracle_runner: " << error.what() << "\n";
    return 1;
  }
}
