// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

const std::vector<std::vector<std::string>> kCommands = {{},
                                                         {"list"},
                                                         {"probe"},
                                                         {"net"},
                                                         {"net", "test"},
                                                         {"bind"},
                                                         {"unbind"},
                                                         {"wq"},
                                                         {"blk"},
                                                         {"blk", "test"},
                                                         {"rng"},
                                                         {"wq", "top"},
                                                         {"wq", "dump"},
                                                         {"wq", "set"},
                                                         {"wq", "trace"},
                                                         {"wq", "latency"},
                                                         {"version"},
                                                         {"help"}};

TEST(Help, OfEachCommandGoesToStdoutAndIsDone) {
  for (const std::vector<std::string>& command : kCommands) {
    std::vector<std::string> with_option = command;
    with_option.emplace_back("--help");
    const Outcome option = run_upci(with_option);
    EXPECT_EQ(option.exit_code, 0) << option;
    EXPECT_EQ(option.err, "") << option;
    EXPECT_NE(option.out.find("Examples:"), std::string::npos) << "no examples: " << option;

    std::vector<std::string> as_command = {"help"};
    as_command.insert(as_command.end(), command.begin(), command.end());
    EXPECT_EQ(run_upci(as_command).out, option.out) << "'upci help' says the same as --help";
  }
}

TEST(Help, IsWhatComesWithoutACommand) {
  const Outcome bare = run_upci({});
  EXPECT_EQ(bare.exit_code, 0) << bare;
  EXPECT_EQ(bare.out, run_upci({"--help"}).out);
}

TEST(Help, NamesEachFault) {
  const Outcome outcome = run_upci({"help", "probe"});
  for (const char* fault :
       {"status-slow", "status-stuck", "gone", "needs-reset", "features-rejected", "access-stalled"}) {
    EXPECT_NE(outcome.out.find(fault), std::string::npos) << fault;
  }
}

}  // namespace
}  // namespace upci::test
