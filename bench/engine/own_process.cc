// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/own_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

namespace bench {

namespace {

constexpr const char* kChild = "UPCI_BENCH_OWN_PROCESS";

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "engine_bench: a sample in a process of its own: %s\n", what);
  std::exit(1);
}

Sample sample_of(const nlohmann::json& json) {
  const auto& from = json.at("cases").at(0).at("contestants").at(0).at("samples").at(0);
  Sample sample;
  sample.value = from.at("value");
  sample.usage.seconds = from.at("seconds");
  sample.usage.cpu_seconds = from.at("cpu_seconds");
  sample.usage.wait_seconds = from.at("wait_seconds");
  sample.usage.others = from.at("others");
  sample.usage.voluntary_switches = from.at("voluntary_switches");
  for (const auto& [name, value] : from.at("more").items()) sample.more[name] = value;
  return sample;
}

}  // namespace

Sample in_own_process(const std::string& case_name, const std::string& contestant,
                      const std::function<Sample()>& measure) {
  if (std::getenv(kChild) != nullptr) return measure();
  char file[] = "/tmp/engine_bench.XXXXXX";
  const int fd = ::mkstemp(file);
  if (fd < 0) give_up("no temporary file in /tmp");
  ::close(fd);
  std::vector<std::string> words{"engine_bench", "--pairs", "1", "--only", contestant, "--json", file, case_name};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::setenv(kChild, "1", 1);
  posix_spawn_file_actions_t quiet;
  ::posix_spawn_file_actions_init(&quiet);
  ::posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, "/proc/self/exe", &quiet, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&quiet);
  ::unsetenv(kChild);
  if (error != 0) give_up("this program cannot be run again");
  int status = 0;
  if (::waitpid(child, &status, 0) != child || status != 0) give_up("it failed");
  std::ifstream result(file);
  const auto json = nlohmann::json::parse(result, nullptr, false);
  ::unlink(file);
  if (json.is_discarded()) give_up("it wrote no result");
  return sample_of(json);
}

}  // namespace bench
