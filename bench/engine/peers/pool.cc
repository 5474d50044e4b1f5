// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/peers/pool.h"

#include <atomic>
#include <barrier>

#include "bench/engine/affinity.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/found.h"

namespace bench {

void start_and_pin(Session& session, const std::vector<int>& cpus) {
  struct Start {
    const std::vector<int>& cpus;
    std::barrier<> together;
    std::atomic<std::size_t> turn{0};
    Gate gate;
  };
  const auto count = static_cast<std::ptrdiff_t>(cpus.size());
  Start start{.cpus = cpus, .together = std::barrier<>(count), .gate = {}};
  start.gate.expect(static_cast<std::uint32_t>(count));
  const Function pin_one = [](void* context) {
    auto& all = *static_cast<Start*>(context);
    pin(all.cpus[all.turn.fetch_add(1) % all.cpus.size()]);
    all.together.arrive_and_wait();  // holds its worker, so that the next closure meets another one
    all.gate.done();
  };
  session.submit_many(cpus.size(), pin_one, &start);
  session.settle();
  start.gate.wait();
}

std::vector<PoolKind> peer_pools() {
  std::vector<PoolKind> found;
#ifdef BENCH_HAVE_TBB
  found.push_back(tbb_pool());
#endif
#ifdef BENCH_HAVE_ASIO
  found.push_back(asio_pool());
#endif
#ifdef BENCH_HAVE_GLIB
  found.push_back(glib_pool());
#endif
#ifdef BENCH_HAVE_UV
  found.push_back(uv_pool());
#endif
  return found;
}

std::vector<PoolKind> floor_pools() {
  std::vector<PoolKind> found;
#ifdef BENCH_HAVE_MOODYCAMEL
  found.push_back(moodycamel_pool());
#endif
#ifdef BENCH_HAVE_RTE_RING
  found.push_back(rte_ring_pool());
#endif
  return found;
}

const PoolKind* find_peer(const std::string& name) {
  static const std::vector<PoolKind> peers = peer_pools();
  for (const PoolKind& peer : peers) {
    if (peer.name == name) return &peer;
  }
  return nullptr;
}

std::vector<std::string> missing_peers() {
  std::vector<std::string> missing;
#ifndef BENCH_HAVE_TBB
  missing.emplace_back("libtbb-dev");
#endif
#ifndef BENCH_HAVE_ASIO
  missing.emplace_back("libasio-dev");
#endif
#ifndef BENCH_HAVE_GLIB
  missing.emplace_back("libglib2.0-dev");
#endif
#ifndef BENCH_HAVE_UV
  missing.emplace_back("libuv1-dev");
#endif
#ifndef BENCH_HAVE_MOODYCAMEL
  missing.emplace_back("libconcurrentqueue-dev");
#endif
#ifndef BENCH_HAVE_RTE_RING
  missing.emplace_back("libdpdk-dev");
#endif
  return missing;
}

}  // namespace bench
