// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/cases/many_queues.h"

#include <fmt/format.h>
#include <malloc.h>

#include <string>
#include <utility>

#include "bench/engine/affinity.h"
#include "bench/engine/cases/flush_peers.h"
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

/// The same items, spread over so many queues and queued from one thread. Held: behind an item that occupies the worker
/// until all are there. Streaming: by each CPU's worker, while more come; then it counts, too, how often one runs dry.
Sample run_queues(std::size_t count) {
  const auto engine = make_engine();
  const PinScope pinned(submitter_cpu());  // an engine made by a pinned thread has that thread's CPUs only
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
  const auto queue_all = [&](const std::vector<int>& cpus) {
    gate.expect(kItems);
    for (std::size_t i = 0; i < kItems; i++) {
      if (!engine->queue_work_on(cpus[i % cpus.size()], *queues[i % count], works[i]))
        refused("a work is still pending");
    }
  };
  const std::vector<int> one_cpu = {worker_cpu()};
  double queueing = 0;
  double running = 0;
  const auto held_round = [&] {
    Holding holding(1);
    ClosureWork holder;
    holder.function = &Holding::hold;
    holder.context = &holding;
    if (!engine->queue_work_on(worker_cpu(), *queues.front(), holder)) refused("the worker cannot be held");
    holding.wait_until_all_are_held();
    const std::uint64_t start = ticks();
    queue_all(one_cpu);
    const std::uint64_t queued = ticks();
    holding.release();
    gate.wait();
    queueing += nanoseconds(start, queued);
    running += nanoseconds(queued, ticks());
    engine->flush_work(holder);
  };
  held_round();  // all memory has been touched
  queueing = running = 0;
  const Meter meter;
  for (int i = 0; i < kRounds; i++) held_round();
  Sample sample;
  sample.usage = meter.read();
  const std::uint64_t start = ticks();
  for (int i = 0; i < kRounds; i++) {
    queue_all(machine_cpus());
    gate.wait();
  }
  const double streaming = nanoseconds(start, ticks());
  const double items = kRounds * static_cast<double>(kItems);
  sample.value = (queueing + running) / items;
  sample.more["queue ns"] = queueing / items;
  sample.more["run ns"] = running / items;
  sample.more["streaming ns"] = streaming / items;
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
      "The worker on CPU {} is held while {} empty items are queued from CPU {}, each on the next queue, then let go; "
      "queueing and running, an item. Streaming: the same for items that are run, on the next CPU each, while more are "
      "queued. Variants: with fewer queues.",
      worker_cpu(), kItems, submitter_cpu());
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
