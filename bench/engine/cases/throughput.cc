// SPDX-License-Identifier: Apache-2.0
// Empty items, queued in batches by one producer or more and run by a worker on each CPU. As the kernel's
// lib/test_workqueue does, the times of the parts are given as percentiles, too.
#include <fmt/format.h>

#include <atomic>
#include <barrier>
#include <thread>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/clock.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/pool.h"
#include "bench/engine/statistics.h"

namespace bench {

namespace {

constexpr std::uint32_t kBatch = 4096;
constexpr double kSeconds = 0.1;

void finish(void* gate) { static_cast<Gate*>(gate)->done(); }

void run_batch(Session& session, Gate& gate, std::uint32_t items) {
  gate.expect(items);
  session.submit_many(items, &finish, &gate);
  session.settle();
  gate.wait();
}

Sample run_throughput(const PoolKind& kind, int producers) {
  const PoolOptions options{.cpus = machine_cpus()};
  const auto pool = kind.make(options);
  struct Producer {
    Gate gate;
    std::vector<double> nanoseconds_per_item;
    double items = 0;
  };
  std::vector<Producer> all(static_cast<std::size_t>(producers));
  std::barrier ready(producers + 1);
  std::vector<std::thread> threads;
  for (Producer& producer : all) {
    threads.emplace_back([&pool, &producer, &ready] {
      const auto session = pool->session(kBatch);
      run_batch(*session, producer.gate, kBatch);  // caches, allocators and threads are warm after it
      producer.nanoseconds_per_item.reserve(1 << 16);
      ready.arrive_and_wait();
      const std::uint64_t start = ticks();
      std::uint64_t now = start;
      do {
        run_batch(*session, producer.gate, kBatch);
        const std::uint64_t end = ticks();
        producer.nanoseconds_per_item.push_back(nanoseconds(now, end) / kBatch);
        producer.items += kBatch;
        now = end;
      } while (nanoseconds(start, now) < kSeconds * 1e9);
      ready.arrive_and_wait();  // until the slowest is done: the time of all counts
    });
  }
  (void)nanoseconds_per_tick();
  ready.arrive_and_wait();
  const Meter meter;
  const std::uint64_t start = ticks();
  ready.arrive_and_wait();
  const double seconds = nanoseconds(start, ticks()) * 1e-9;
  Sample sample;
  sample.usage = meter.read();
  for (std::thread& thread : threads) thread.join();
  double items = 0;
  std::vector<double> batches;
  for (const Producer& producer : all) {
    items += producer.items;
    batches.insert(batches.end(), producer.nanoseconds_per_item.begin(), producer.nanoseconds_per_item.end());
  }
  sample.value = items / seconds * 1e-6;
  sample.more["batch p50 ns/item"] = percentile(batches, 0.50);
  sample.more["batch p90 ns/item"] = percentile(batches, 0.90);
  sample.more["batch p95 ns/item"] = percentile(batches, 0.95);
  sample.more["CPU ns/item"] = sample.usage.cpu_seconds * 1e9 / items;
  return sample;
}

Contestant contestant(Contestant::Kind role, const PoolKind& kind, int producers) {
  return {
      .kind = role, .name = kind.name, .settings = kind.settings({.cpus = machine_cpus()}), .run = [kind, producers] {
        return run_throughput(kind, producers);
      }};
}

}  // namespace

std::vector<Case> throughput_cases() {
  std::vector<Case> cases;
  for (const int producers : {1, 2, 4}) {
    Case one;
    one.name = fmt::format("throughput-{}", producers);
    one.title =
        fmt::format("queue -> run throughput, empty items, {} producer{}", producers, producers == 1 ? "" : "s");
    one.unit = "M items/s";
    one.lower_is_better = false;
    one.method = fmt::format(
        "Each producer (not pinned) submits batches of {} and waits for each; {} workers, one pinned to each CPU, for "
        "{} s.",
        kBatch, machine_cpus().size(), kSeconds);
    one.targets = {{.against = Target::Against::kBestPeer, .at_most = false, .ratio = 3.0}};
    one.contestants.push_back(contestant(Contestant::Kind::kOurs, our_pool(), producers));
    one.contestants.push_back(contestant(Contestant::Kind::kVariant, our_unbound_pool(), producers));
    for (const PoolKind& peer : peer_pools()) {
      one.contestants.push_back(contestant(Contestant::Kind::kPeer, peer, producers));
    }
    for (const PoolKind& floor : floor_pools()) {
      // A producer of a ring that is preempted in mid-step stops all others: not for more threads than CPUs.
      if (floor.name == "rte_ring" && producers > 1) continue;
      one.contestants.push_back(contestant(Contestant::Kind::kFloor, floor, producers));
    }
    one.remark = "The bare queues are no thread pools: nobody sleeps, nobody is woken.";
    cases.push_back(std::move(one));
  }
  return cases;
}

}  // namespace bench
