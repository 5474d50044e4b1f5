// SPDX-License-Identifier: Apache-2.0
// Bytes: of a work at rest, of an item that is pending.
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/cases/flush_peers.h"
#include "bench/engine/futex.h"
#include "bench/engine/own_process.h"
#include "bench/engine/peers/ours.h"

namespace bench {

namespace {

constexpr std::size_t kItems = 1'000'000;

double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  double size = 0;
  double resident = 0;
  file >> size >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

/// What the process grows by when that many items are pending, the items themselves included.
Sample run_pending(const PoolKind& kind) {
  ::malloc_trim(0);
  const auto pool = kind.make({.cpus = {worker_cpu()}});
  Holding holding(1);
  Gate gate;
  gate.expect(1);
  const Meter meter;
  const double before = resident_bytes();
  const auto session = pool->session(kItems + 2);
  session->submit(&Holding::hold, &holding);
  holding.wait_until_all_are_held();
  session->submit_many(kItems, [](void*) {}, nullptr);
  const double after = resident_bytes();
  session->submit([](void* context) { static_cast<Gate*>(context)->done(); }, &gate);
  holding.release();
  session->settle();
  gate.wait();
  Sample sample;
  sample.usage = meter.read();
  sample.value = (after - before) / kItems;
  return sample;
}

Sample run_ours_pending() {
  Sample sample = run_pending(our_pool());
  // This program's work carries a function and its argument, 16 bytes, as the peers' closures do.
  sample.more["bytes of a Work at rest"] = sizeof(upci::Work);
  sample.more["bytes of a DelayedWork"] = sizeof(upci::DelayedWork);
  return sample;
}

}  // namespace

std::vector<Case> memory_cases() {
  Case one;
  one.name = "memory";
  one.title = "memory of a pending item";
  one.unit = "bytes";
  one.method = fmt::format(
      "Growth of the resident set by {} pending closures of 16 bytes, in a process of its own, divided by them.",
      kItems);
  one.targets = {{.against = Target::Against::kOwnFigure, .of = "bytes of a Work at rest", .ratio = 64}};
  one.contestants.push_back({.kind = Contestant::Kind::kOurs,
                             .name = "upci",
                             .settings = "the work is the item: nothing is allocated to queue it",
                             .run = [] { return in_own_process("memory", "upci", run_ours_pending); }});
  for (const PoolKind& peer : peer_pools()) {
    one.contestants.push_back(
        {.kind = Contestant::Kind::kPeer,
         .name = peer.name,
         .settings = peer.settings({.cpus = {worker_cpu()}}),
         .run = [peer] { return in_own_process("memory", peer.name, [peer] { return run_pending(peer); }); }});
  }
  return {std::move(one)};
}

}  // namespace bench
