// SPDX-License-Identifier: Apache-2.0
// What an item costs when very many are pending, and when it is one queue of very many that it is queued on.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/cases/flush_peers.h"
#include "bench/engine/cases/many_queues.h"
#include "bench/engine/clock.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/ours.h"
#include "bench/engine/statistics.h"

namespace bench {

namespace {

constexpr std::size_t kMost = 1'000'000;
constexpr std::size_t kLeastItems = 200'000;  // of a sample: that many rounds make it

/// Rounds: the worker is held by an item, `pending` items are queued behind it, it is let go. The items are taken in turn
/// from as many as the largest round has, so that all rounds find them equally far away in memory.
Sample run_pending(const PoolKind& kind, std::size_t pending) {
  const auto pool = kind.make({.cpus = {worker_cpu()}});
  const PinScope pinned(submitter_cpu());
  const auto session = pool->session(kMost + 8);
  struct Ends {
    Gate gate;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  } ends;
  const Function nothing = [](void*) {};
  const Function begin = [](void* context) { static_cast<Ends*>(context)->first = ticks(); };
  const Function end = [](void* context) {
    auto& self = *static_cast<Ends*>(context);
    self.last = ticks();
    self.gate.done();
  };
  const auto round = [&](std::size_t items) {
    Holding holding(1);
    ends.gate.expect(1);
    session->submit(&Holding::hold, &holding);
    holding.wait_until_all_are_held();
    const std::uint64_t start = ticks();
    session->submit(begin, &ends);
    session->submit_many(items - 1, nothing, nullptr);
    session->submit(end, &ends);
    const std::uint64_t queued = ticks();
    holding.release();
    session->settle();
    ends.gate.wait();
    return std::pair(nanoseconds(start, queued), nanoseconds(ends.first, ends.last));
  };
  (void)round(kMost);  // all memory has been touched
  const std::size_t rounds = std::max<std::size_t>(1, kLeastItems / pending);
  double queueing = 0;
  double running = 0;
  const Meter meter;
  for (std::size_t i = 0; i < rounds; i++) {
    const auto [queued, ran] = round(pending);
    queueing += queued;
    running += ran;
  }
  Sample sample;
  sample.usage = meter.read();
  const double items = static_cast<double>(rounds * pending);
  sample.value = (queueing + running) / items;
  sample.more["queue ns"] = queueing / items;
  sample.more["run ns"] = running / items;
  return sample;
}

Case pending_case() {
  Case one;
  one.name = "scale-pending";
  one.title = "cost of an item when 1,000,000 are pending";
  one.unit = "ns";
  one.method = fmt::format(
      "The worker on CPU {} is held while empty items are queued from CPU {}, then let go; queueing and running, an "
      "item. "
      "Variants: with fewer pending, in rounds that use the same {} items in turn.",
      worker_cpu(), submitter_cpu(), kMost);
  one.targets = {{.against = Target::Against::kVariant, .name = "10 pending", .ratio = 1.5}};
  const PoolKind ours = our_pool();
  const auto add = [&one](Contestant::Kind role, const PoolKind& kind, std::string name, std::size_t pending) {
    one.contestants.push_back({.kind = role,
                               .name = std::move(name),
                               .settings = kind.settings({.cpus = {worker_cpu()}}),
                               .run = [kind, pending] { return run_pending(kind, pending); }});
  };
  add(Contestant::Kind::kOurs, ours, "upci", kMost);
  add(Contestant::Kind::kVariant, ours, "10 pending", 10);
  add(Contestant::Kind::kVariant, ours, "1,000 pending", 1'000);
  add(Contestant::Kind::kVariant, ours, "100,000 pending", 100'000);
  for (const PoolKind& peer : peer_pools()) add(Contestant::Kind::kPeer, peer, peer.name, kMost);
  one.remark =
      "In a round of 10 the lines that the two CPUs share change hands for each few items, which is part of its cost.";
  return one;
}

}  // namespace

std::vector<Case> scale_cases() {
  std::vector<Case> cases;
  if (machine_cpus().size() > 1) {
    cases.push_back(pending_case());
    for (Case& one : many_queues_cases()) cases.push_back(std::move(one));
  }
  return cases;
}

}  // namespace bench
