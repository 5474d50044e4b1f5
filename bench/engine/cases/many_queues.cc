// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/cases/many_queues.h"

#include <fmt/format.h>
#include <malloc.h>

#include <string>
#include <utility>

#include "bench/engine/affinity.h"
#include "bench/engine/clock.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/ours.h"

namespace bench {

namespace {

constexpr std::size_t kItems = 10'000;
constexpr int kRounds = 20;
constexpr std::size_t kMost = 10'000;

double allocated_bytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

/// The same items, spread over so many queues: queued from one thread, run by each CPU's worker, all waited for.
Sample run_queues(std::size_t count) {
  const auto engine = make_engine();
  const double before = allocated_bytes();
  std::vector<upci::WorkqueuePtr> queues;
  for (std::size_t i = 0; i < count; i++) queues.push_back(make_queue(*engine, upci::kWqPercpu));
  const double bytes = allocated_bytes() - before;
  std::vector<ClosureWork> works(kItems);
  Gate gate;
  for (ClosureWork& work : works) {
    work.function = [](void* context) { static_cast<Gate*>(context)->done(); };
    work.context = &gate;
  }
  const std::vector<int>& cpus = machine_cpus();
  const auto round = [&] {
    gate.expect(kItems);
    for (std::size_t i = 0; i < kItems; i++) {
      if (!engine->queue_work_on(cpus[i % cpus.size()], *queues[i % count], works[i]))
        refused("a work is still pending");
    }
    gate.wait();
  };
  round();
  const Meter meter;
  const std::uint64_t start = ticks();
  for (int i = 0; i < kRounds; i++) round();
  const double time = nanoseconds(start, ticks());
  Sample sample;
  sample.usage = meter.read();
  sample.value = time / (kRounds * static_cast<double>(kItems));
  sample.more["bytes a queue"] = bytes / static_cast<double>(count);
  return sample;
}

}  // namespace

std::vector<Case> many_queues_cases() {
  Case one;
  one.name = "scale-queues";
  one.title = "cost of an item when there are 10,000 workqueues";
  one.unit = "ns";
  one.method = fmt::format(
      "{} items are queued from one thread, each on the next queue and the next CPU, and run by one worker a CPU; a "
      "round, "
      "divided by its items. Variants: with fewer queues.",
      kItems);
  one.targets = {{.against = Target::Against::kVariant, .name = "1 queue", .ratio = 1.5}};
  const auto add = [&one](Contestant::Kind kind, std::string name, std::size_t count) {
    one.contestants.push_back(
        {.kind = kind, .name = std::move(name), .settings = fmt::format("{} per-CPU queues", count), .run = [count] {
           return run_queues(count);
         }});
  };
  add(Contestant::Kind::kOurs, "upci", kMost);
  add(Contestant::Kind::kVariant, "1 queue", 1);
  add(Contestant::Kind::kVariant, "100 queues", 100);
  one.remark = "No peer has queues that can be flushed and limited by themselves.";
  return {std::move(one)};
}

}  // namespace bench
