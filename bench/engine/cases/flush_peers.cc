// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/cases/flush_peers.h"

#include <memory>

#include "bench/engine/affinity.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/pool.h"
#ifdef BENCH_HAVE_TBB
#include <tbb/task_group.h>

#include "bench/engine/peers/tbb_arena.h"
#endif
#ifdef BENCH_HAVE_ASIO
#include <asio/post.hpp>
#include <asio/thread_pool.hpp>
#endif

namespace bench {

namespace {

template <class Wait>
Sample time_of(Holding& holding, Wait wait) {
  const Meter meter;
  const std::uint64_t start = ticks();
  holding.release();
  wait();
  const double time = nanoseconds(start, ticks());
  Sample sample;
  sample.usage = meter.read();
  sample.value = time / 1e3;
  return sample;
}

#ifdef BENCH_HAVE_TBB
Sample flush_tbb(std::size_t items) {
  const std::vector<int>& cpus = machine_cpus();
  Holding holding(cpus.size());
  TbbArena arena(cpus);
  tbb::task_group group;
  for (int warm_up = 0; warm_up < 2; warm_up++) {
    if (warm_up == 1) {
      for (std::size_t i = 0; i < cpus.size(); i++) arena.arena.enqueue([&holding] { Holding::hold(&holding); });
      holding.wait_until_all_are_held();
    }
    for (std::size_t i = 0; i < items; i++) arena.arena.enqueue(group.defer([] {}));
    if (warm_up == 0) group.wait();
  }
  return time_of(holding, [&group] { group.wait(); });
}
#endif

#ifdef BENCH_HAVE_ASIO
Sample flush_asio(std::size_t items) {
  const std::vector<int>& cpus = machine_cpus();
  Holding holding(cpus.size());
  asio::thread_pool pool(cpus.size());
  for (const int cpu : cpus) {
    asio::post(pool, [&holding, cpu] {
      pin(cpu);
      Holding::hold(&holding);
    });
  }
  holding.wait_until_all_are_held();
  for (std::size_t i = 0; i < items; i++) asio::post(pool, [] {});
  return time_of(holding, [&pool] { pool.join(); });
}
#endif

/// For the others a counter in each item stands for the call that they lack.
Sample flush_pool(const PoolKind& kind, std::size_t items) {
  const std::vector<int>& cpus = machine_cpus();
  Holding holding(cpus.size());
  const auto pool = kind.make({.cpus = cpus});
  const auto session = pool->session(items + cpus.size());
  Gate gate;
  const Function count = [](void* context) { static_cast<Gate*>(context)->done(); };
  gate.expect(static_cast<std::uint32_t>(items));
  session->submit_many(items, count, &gate);
  session->settle();
  gate.wait();
  session->submit_many(cpus.size(), &Holding::hold, &holding);
  holding.wait_until_all_are_held();
  gate.expect(static_cast<std::uint32_t>(items));
  session->submit_many(items, count, &gate);
  return time_of(holding, [&] {
    session->settle();
    gate.wait();
  });
}

}  // namespace

std::vector<Contestant> flush_peers(std::size_t items) {
  std::vector<Contestant> peers;
#ifdef BENCH_HAVE_TBB
  peers.push_back({.kind = Contestant::Kind::kPeer,
                   .name = "oneTBB",
                   .settings = "task_group::defer enqueued in an arena, task_group::wait",
                   .run = [items] { return flush_tbb(items); }});
#endif
#ifdef BENCH_HAVE_ASIO
  peers.push_back({.kind = Contestant::Kind::kPeer,
                   .name = "asio",
                   .settings = "thread_pool::join (which also ends the threads: it has no other way)",
                   .run = [items] { return flush_asio(items); }});
#endif
  for (const PoolKind& peer : peer_pools()) {
    if (peer.name == "oneTBB" || peer.name == "asio") continue;
    peers.push_back({.kind = Contestant::Kind::kPeer,
                     .name = peer.name,
                     .settings = peer.name == "libuv" ? "uv_run until nothing is left"
                                                      : "a counter in the items (it can only be waited for by its end)",
                     .run = [peer, items] { return flush_pool(peer, items); }});
  }
  return peers;
}

}  // namespace bench
