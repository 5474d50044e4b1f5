// SPDX-License-Identifier: Apache-2.0
// What instructions.py counts the instructions of: works are queued and run, in the simulated variant, which is one thread
// and the same each time. Usage: instructions_count plain|extra ROUNDS SEED...
// With "extra" each item costs one more call, a tenth or so: for the proof that the count notices.
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/platform.h"
#include "workqueue/engine.h"

namespace {

namespace sim = upci::platform::sim;

constexpr int kBatch = 16;

void nothing(upci::Work&) {}

struct Item : upci::Work {
  Item() : upci::Work(&nothing) {}
};

void queue_and_run(bool extra, int rounds) {
  auto topology = upci::Topology::synthetic("core:1");
  if (!topology) sim::fail_run(topology.error().message());
  upci::Engine::Options options;
  options.topology = *topology;
  options.blocking = upci::BlockingTier::kFramework;  // the others' threads would come and go by the seed
  auto engine = upci::Engine::create(options);
  if (!engine) sim::fail_run(engine.error().message());
  auto queue = (*engine)->alloc_workqueue("counted", upci::kWqPercpu);
  if (!queue) sim::fail_run(queue.error().message());
  std::vector<Item> items(kBatch);
  for (int round = 0; round < rounds; round++) {
    for (Item& item : items) {
      if (extra) (void)(*engine)->cancel_work(item);
      if (!(*engine)->queue_work_on(0, **queue, item)) sim::fail_run("a work is still pending");
    }
    (*engine)->flush_workqueue(**queue);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (argc < 4 || (mode != "plain" && mode != "extra")) {
    std::fputs("usage: instructions_count plain|extra ROUNDS SEED...\n", stderr);
    return 2;
  }
  const int rounds = std::atoi(argv[2]);
  for (int i = 3; i < argc; i++) {
    sim::Options options;
    options.seed = std::strtoull(argv[i], nullptr, 10);
    options.cpus = 1;
    options.spurious = false;
    options.max_steps = 100'000'000;
    const sim::Outcome outcome = sim::run(options, [mode, rounds] { queue_and_run(mode == "extra", rounds); });
    if (outcome.ok()) continue;
    std::fprintf(stderr, "seed %s: %s\n", argv[i], outcome.text.c_str());
    return 1;
  }
  return 0;
}
