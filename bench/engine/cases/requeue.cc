// SPDX-License-Identifier: Apache-2.0
// Two threads queue one and the same work, as fast as they can: all but a few calls find it pending.
#include <fmt/format.h>

#include <atomic>
#include <barrier>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/clock.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/ours.h"

namespace bench {

namespace {

constexpr int kProducers = 2;
constexpr double kSeconds = 0.1;

/// `make_call` gives each producer what it calls; a call returns nothing. `runs` counts how often the item ran.
template <class MakeCall>
Sample storm(const std::atomic<std::uint64_t>& runs, MakeCall make_call) {
  std::barrier ready(kProducers + 1);
  std::atomic<bool> stop{false};
  std::vector<std::uint64_t> calls(kProducers * 8);  // a cache line each
  std::vector<std::thread> threads;
  for (std::size_t number = 0; number < kProducers; number++) {
    threads.emplace_back([&, number] {
      auto call = make_call();
      ready.arrive_and_wait();
      std::uint64_t count = 0;
      for (; !stop.load(std::memory_order_relaxed); count += 64) {
        for (int i = 0; i < 64; i++) call();
      }
      calls[number * 8] = count;
    });
  }
  (void)nanoseconds_per_tick();
  ready.arrive_and_wait();
  const Meter meter;
  const std::uint64_t before = runs.load();
  const std::uint64_t start = ticks();
  std::this_thread::sleep_for(std::chrono::duration<double>(kSeconds));
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  const double seconds = nanoseconds(start, ticks()) * 1e-9;
  Sample sample;
  sample.usage = meter.read();
  std::uint64_t total = 0;
  for (std::size_t number = 0; number < kProducers; number++) total += calls[number * 8];
  sample.value = static_cast<double>(total) / seconds * 1e-6;
  sample.more["runs/s"] = static_cast<double>(runs.load() - before) / seconds;
  return sample;
}

struct Counted {
  std::atomic<std::uint64_t> runs{0};
  alignas(64) std::atomic<bool> pending{false};
  upci::Work work{this, &Counted::count};
  void count(upci::Work&) { runs.store(runs.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
  static void flagged(void* context) {
    auto& self = *static_cast<Counted*>(context);
    self.pending.exchange(false, std::memory_order_seq_cst);
    self.runs.store(self.runs.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

Sample run_ours() {
  const auto engine = make_engine();
  Counted counted;
  Sample sample =
      storm(counted.runs, [&] { return [&] { (void)engine->queue_work(engine->system_wq(), counted.work); }; });
  engine->cancel_work_sync(counted.work);
  return sample;
}

Sample run_pool(const PoolKind& kind) {
  Counted counted;
  const auto pool = kind.make({.cpus = machine_cpus()});
  // They outlive their threads: what one has submitted last may still be pending then.
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < kProducers; i++) sessions.push_back(pool->session(64));
  std::atomic<std::size_t> next{0};
  Sample sample = storm(counted.runs, [&] {
    return [&counted, session = sessions[next.fetch_add(1)].get()] {
      if (!counted.pending.exchange(true, std::memory_order_seq_cst)) session->submit(&Counted::flagged, &counted);
    };
  });
  // Whoever took the flag last has submitted: once it is free, nobody has it any more.
  while (counted.pending.load()) std::this_thread::yield();
  return sample;
}

Sample run_exchange() {
  const std::atomic<std::uint64_t> runs{0};
  alignas(64) std::atomic<bool> word{false};
  return storm(runs, [&word] { return [&word] { (void)word.exchange(true, std::memory_order_seq_cst); }; });
}

}  // namespace

std::vector<Case> requeue_cases() {
  Case one;
  one.name = "requeue-storm";
  one.title = "two threads queue one work that is mostly pending already";
  one.unit = "M calls/s";
  one.lower_is_better = false;
  one.method = fmt::format("{} threads, not pinned, {} s; {} workers.", kProducers, kSeconds, machine_cpus().size());
  one.contestants.push_back(
      {.kind = Contestant::Kind::kOurs, .name = "upci", .settings = "queue_work of one work", .run = run_ours});
  for (const PoolKind& peer : peer_pools()) {
    // libuv's closures are taken back by the loop of the thread that gave them: one work of two threads has no such loop.
    if (peer.name == "libuv") continue;
    one.contestants.push_back({.kind = Contestant::Kind::kPeer,
                               .name = peer.name,
                               .settings = peer.settings({.cpus = machine_cpus()}) + ", behind an atomic flag",
                               .run = [peer] { return run_pool(peer); }});
  }
  one.contestants.push_back({.kind = Contestant::Kind::kFloor,
                             .name = "atomic exchange",
                             .settings = "of one word by both threads, and nothing else",
                             .run = run_exchange});
  return {std::move(one)};
}

}  // namespace bench
