// SPDX-License-Identifier: Apache-2.0
#include "bench/datapath/backend.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "tests/drivers/testpmd.h"

namespace bench::datapath {

namespace {

struct Running {
  std::string case_name;
  unsigned queues = 0;
  std::unique_ptr<upci::driver_tests::Testpmd> testpmd;
};

}  // namespace

std::string backend_socket(const std::string& case_name, const std::string& mode, unsigned queues, int cpu) {
  static Running running;
  if (running.testpmd == nullptr || running.case_name != case_name || running.queues != queues) {
    running = {};
    auto started = upci::driver_tests::Testpmd::start({.mode = mode, .queues = queues, .cpu = cpu},
                                                      upci::Deadline::after(std::chrono::seconds(60)));
    if (!started) {
      std::fprintf(stderr, "datapath_bench: %s; %s\n", started.error().message().c_str(),
                   started.error().advice.c_str());
      std::exit(1);
    }
    running = {.case_name = case_name, .queues = queues, .testpmd = std::move(*started)};
  }
  return running.testpmd->socket();
}

}  // namespace bench::datapath
