// SPDX-License-Identifier: Apache-2.0
// DPDK's ring, in memory of our own: no EAL, no huge pages.
#include <rte_errno.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <rte_version.h>

#include <cstdio>
#include <cstdlib>

#include "bench/engine/peers/bare_queue.h"
#include "bench/engine/peers/found.h"

namespace bench {

namespace {

constexpr unsigned kSlots = 1U << 16;

struct FreeMemory {
  void operator()(rte_ring* ring) const noexcept { std::free(ring); }
};
using Ring = std::unique_ptr<rte_ring, FreeMemory>;

// A ring of elements of the size of a closure: the generic form reads its size from the ring, so it is initialised by hand.
Ring make_ring() {
  const auto size = static_cast<std::size_t>(rte_ring_get_memsize_elem(sizeof(BareClosure), kSlots));
  Ring ring(static_cast<rte_ring*>(std::aligned_alloc(RTE_CACHE_LINE_SIZE, (size + 127) / 128 * 128)));
  if (!ring || rte_ring_init(ring.get(), "bench", kSlots, 0) != 0) {
    std::fputs("engine_bench: rte_ring_init failed\n", stderr);
    std::exit(1);
  }
  return ring;
}

class RteSession : public Session {
 public:
  explicit RteSession(rte_ring* ring) : ring_(ring) {}
  void submit(Function function, void* context) override { push({function, context}); }
  void submit_many(std::size_t count, Function function, void* context) override {
    for (std::size_t i = 0; i < count; i++) push({function, context});
  }

 private:
  void push(BareClosure closure) {
    while (rte_ring_enqueue_elem(ring_, &closure, sizeof closure) != 0) std::this_thread::yield();
  }
  rte_ring* ring_;
};

class RtePool : public Pool {
 public:
  explicit RtePool(const PoolOptions& options) : ring_(make_ring()) {
    workers_.start(options.cpus, [ring = ring_.get()](BareClosure* closures, std::size_t count) -> std::size_t {
      return rte_ring_dequeue_burst_elem(ring, closures, sizeof(BareClosure), static_cast<unsigned>(count), nullptr);
    });
  }
  ~RtePool() override { workers_.stop(); }
  RtePool(const RtePool&) = delete;
  RtePool& operator=(const RtePool&) = delete;
  std::unique_ptr<Session> session(std::size_t) override { return std::make_unique<RteSession>(ring_.get()); }

 private:
  Ring ring_;
  BareWorkers workers_;
};

}  // namespace

PoolKind rte_ring_pool() {
  return {
      .name = "rte_ring",
      .version = rte_version(),
      .make = [](const PoolOptions& options) -> std::unique_ptr<Pool> { return std::make_unique<RtePool>(options); },
      .settings =
          [](const PoolOptions&) {
            return std::string("many producers and consumers, consumers poll in bursts of 32 and yield");
          },
  };
}

}  // namespace bench
