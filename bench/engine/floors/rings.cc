// SPDX-License-Identifier: Apache-2.0
// A pair of DPDK rings, one each way, polled by both sides: the round trip of those who never sleep.
#include <rte_ring.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/clock.h"
#include "bench/engine/floors/floors.h"
#include "bench/engine/statistics.h"

namespace bench {

namespace {

struct FreeMemory {
  void operator()(rte_ring* ring) const noexcept { std::free(ring); }
};

std::unique_ptr<rte_ring, FreeMemory> make_ring() {
  const auto size = static_cast<std::size_t>(rte_ring_get_memsize(64));
  std::unique_ptr<rte_ring, FreeMemory> ring(
      static_cast<rte_ring*>(std::aligned_alloc(RTE_CACHE_LINE_SIZE, (size + 127) / 128 * 128)));
  if (!ring || rte_ring_init(ring.get(), "pair", 64, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
    std::fputs("engine_bench: rte_ring_init failed\n", stderr);
    std::exit(1);
  }
  return ring;
}

}  // namespace

Sample rte_ring_round_trip_floor(int rounds) {
  const PinScope pinned(submitter_cpu());
  const auto there = make_ring();
  const auto back = make_ring();
  std::thread other([&there, &back, rounds] {
    pin(worker_cpu());
    for (int i = 0; i < rounds; i++) {
      void* item = nullptr;
      while (rte_ring_dequeue(there.get(), &item) != 0) relax();
      rte_ring_enqueue(back.get(), item);
    }
  });
  std::vector<double> times;
  int value = 0;
  const Meter meter;
  for (int i = 0; i < rounds; i++) {
    const std::uint64_t start = ticks();
    rte_ring_enqueue(there.get(), &value);
    void* item = nullptr;
    while (rte_ring_dequeue(back.get(), &item) != 0) relax();
    times.push_back(nanoseconds(start, ticks()));
  }
  Sample sample;
  sample.usage = meter.read();
  other.join();
  sample.value = median(times);
  sample.more["p99 ns"] = percentile(times, 0.99);
  return sample;
}

}  // namespace bench
