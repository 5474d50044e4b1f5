// SPDX-License-Identifier: Apache-2.0
// Runs the body of a test in simulation, once for each of many seeds. For test programs that are built with UPCI_SIM.
//
//   TEST(Queue, WakesEveryWaiter) {
//     test::for_each_seed(1000, [] { ... start threads, wait, EXPECT ... });
//   }
//
// The first seed that fails ends the test and prints how to run it again.
//   UPCI_SEED=n    runs that one seed only
//   UPCI_SEEDS=n   runs n seeds instead of the number that the test names
#pragma once

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::test {

namespace sim = platform::sim;

inline std::optional<std::uint64_t> seed_variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  return std::strtoull(text, nullptr, 0);
}

inline std::string replay_line(std::uint64_t seed) {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string name = "*";
  if (test != nullptr) name = std::string(test->test_suite_name()) + "." + test->name();
  return "replay: UPCI_SEED=" + std::to_string(seed) + " " + program_invocation_name + " --gtest_filter=" + name;
}

/// Runs `body` as the main fiber under one seed; a run that does not finish is a test failure.
template <class F>
sim::Outcome run_seed(std::uint64_t seed, F body, sim::Options options = {}) {
  options.seed = seed;
  options.stacks = true;
  sim::Outcome outcome = sim::run(options, [&body] { body(); });
  if (!outcome.ok()) ADD_FAILURE() << outcome.text;
  return outcome;
}

/// Runs `body` under the seeds options.seed, options.seed + 1, ... until one fails.
template <class F>
void for_each_seed(unsigned count, F body, sim::Options options = {}) {
  std::uint64_t first = options.seed;
  std::uint64_t seeds = seed_variable("UPCI_SEEDS").value_or(count);
  if (const auto wanted = seed_variable("UPCI_SEED")) {
    first = *wanted;
    seeds = 1;
  }
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    const sim::Outcome outcome = run_seed(seed, body, options);
    if (outcome.ok() && !testing::Test::HasFailure()) continue;
    ADD_FAILURE() << "seed " << seed << " fails; " << replay_line(seed);
    return;
  }
}

}  // namespace upci::inline UPCI_VARIANT::test
