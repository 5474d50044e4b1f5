// SPDX-License-Identifier: Apache-2.0
// An item blocks for 10 ms, in a plain system call that nothing of ours sees: when does the next item of its CPU start?
#include <fmt/format.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/clock.h"
#include "bench/engine/floors/floors.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/ours.h"
#include "bench/engine/statistics.h"

namespace bench {

namespace {

constexpr long kBlock = 10'000'000;  // ns
constexpr int kItems = 20;

enum class Way { kRead, kSleep };

struct Blocked {
  Way way = Way::kRead;
  int timer = -1;
  std::atomic<bool> running{false};
  std::atomic<bool> queued{false};
  std::uint64_t blocks = 0;
  std::uint64_t next = 0;
  Gate gate;

  static void block(void* context) {
    auto& self = *static_cast<Blocked*>(context);
    self.running.store(true, std::memory_order_release);
    while (!self.queued.load(std::memory_order_acquire)) relax();
    const timespec length{.tv_sec = 0, .tv_nsec = kBlock};
    if (self.way == Way::kRead) {
      const itimerspec once{.it_interval = {}, .it_value = length};
      ::timerfd_settime(self.timer, 0, &once, nullptr);
      self.blocks = ticks();
      std::uint64_t count = 0;
      if (::read(self.timer, &count, sizeof count) < 0) refused("read of a timerfd failed");
    } else {
      self.blocks = ticks();
      ::nanosleep(&length, nullptr);
    }
    self.gate.done();
  }
  static void follow(void* context) {
    auto& self = *static_cast<Blocked*>(context);
    self.next = ticks();
    self.gate.done();
  }
};

Sample run_blocked(const PoolKind& kind, Way way) {
  const auto pool = kind.make({.cpus = {worker_cpu()}});
  const PinScope pinned(submitter_cpu());
  const auto session = pool->session(16);
  Blocked blocked;
  blocked.way = way;
  blocked.timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  std::vector<double> times;
  const Meter meter;
  for (int i = 0; i < kItems; i++) {
    blocked.running.store(false);
    blocked.queued.store(false);
    blocked.gate.expect(2);
    session->submit(&Blocked::block, &blocked);
    while (!blocked.running.load(std::memory_order_acquire)) relax();
    session->submit(&Blocked::follow, &blocked);
    spin_for(20e3);  // whoever was woken by that is ready
    blocked.queued.store(true, std::memory_order_release);
    session->settle();
    blocked.gate.wait();
    times.push_back(nanoseconds(blocked.blocks, blocked.next));
  }
  Sample sample;
  sample.usage = meter.read();
  ::close(blocked.timer);
  sample.value = median(times);
  sample.more["min ns"] = percentile(times, 0);
  sample.more["max ns"] = percentile(times, 1);
  return sample;
}

Case blocked_case(Way way, const char* name, const char* call) {
  Case one;
  one.name = name;
  one.title = fmt::format("an item blocks 10 ms in {}: the next item of that CPU starts", call);
  one.unit = "ns";
  one.method = fmt::format(
      "One worker on CPU {}; the next item is queued before the call, which nothing announces. Before the call -> the "
      "next "
      "item's start, median of {}.",
      worker_cpu(), kItems);
  one.targets = {{.against = Target::Against::kFloor, .ratio = 4.0}};
  const auto add = [&one, way](Contestant::Kind role, const PoolKind& kind) {
    one.contestants.push_back(
        {.kind = role, .name = kind.name, .settings = kind.settings({.cpus = {worker_cpu()}}), .run = [kind, way] {
           return run_blocked(kind, way);
         }});
  };
  add(Contestant::Kind::kOurs, our_pool());
  for (const PoolKind& peer : peer_pools()) add(Contestant::Kind::kPeer, peer);
  one.contestants.push_back({.kind = Contestant::Kind::kFloor,
                             .name = "eventfd, same CPU",
                             .settings = "write by a thread that then sleeps -> read returns in another one on its CPU",
                             .run = [] { return same_cpu_eventfd_floor(100); }});
  one.remark = "The peers have a fixed number of threads: their next item starts when the block ends.";
  return one;
}

}  // namespace

std::vector<Case> blocked_cases() {
  if (machine_cpus().size() < 2) return {};
  std::vector<Case> cases;
  cases.push_back(blocked_case(Way::kRead, "blocked-read", "read(2)"));
  cases.push_back(blocked_case(Way::kSleep, "blocked-nanosleep", "nanosleep(2)"));
  return cases;
}

}  // namespace bench
