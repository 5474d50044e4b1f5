// SPDX-License-Identifier: Apache-2.0
// 10,000 workqueues, half per-CPU and half unbound, with 1,000,000 items pending on them at once; then all of them run, once.
// Prints what each takes in memory.
//   workqueue_scale [QUEUES [ITEMS]]
#include <malloc.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <string>
#include <vector>

#include "base/log.h"
#include "workqueue/engine.h"
#include "workqueue/snapshot.h"

namespace {

using namespace upci;

/// Of the heap, thread stacks and all: what the process really has.
long resident_bytes() {
  std::ifstream file("/proc/self/statm");
  long size = 0;
  long resident = 0;
  file >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

long heap_bytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return static_cast<long>(info.uordblks + info.hblkhd);
}

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "workqueue_scale: %s\n", why.c_str());
  std::_Exit(1);
}

platform::Atomic<long> runs{0};

struct Item {
  void run(Work&) {
    own_runs++;
    runs.fetch_add(1, std::memory_order_relaxed);
  }
  Work work{this, &Item::run};
  int own_runs = 0;  // runs of one work never overlap
};

}  // namespace

int main(int argc, char** argv) {
  log::set_level(log::Level::kOff);
  const long queue_count = argc > 1 ? std::atol(argv[1]) : 10'000;
  const long item_count = argc > 2 ? std::atol(argv[2]) : 1'000'000;
  if (queue_count < 1 || item_count < 1) die("QUEUES and ITEMS are numbers from 1 on");
  auto made = Engine::create();
  if (!made) die(made.error().message());
  Engine& engine = **made;
  const auto& cpus = engine.topology().cpus();

  std::vector<WorkqueuePtr> queues;
  queues.reserve(static_cast<std::size_t>(queue_count));
  const long heap_before = heap_bytes();
  for (long i = 0; i < queue_count; i++) {
    const WqFlags kind = i % 2 == 0 ? kWqPercpu : kWqUnbound;
    auto queue = engine.alloc_workqueue("scale" + std::to_string(i), kind | kWqFreezable);
    if (!queue) die("workqueue " + std::to_string(i) + ": " + queue.error().message());
    queues.push_back(std::move(*queue));
  }
  const long heap_queues = heap_bytes();

  std::deque<Item> items(static_cast<std::size_t>(item_count));
  engine.freeze_workqueues();
  const long before = resident_bytes();
  const long heap_items = heap_bytes();
  for (long i = 0; i < item_count; i++) {
    const int cpu = cpus[static_cast<std::size_t>(i) % cpus.size()].id;
    Work& work = items[static_cast<std::size_t>(i)].work;
    if (!engine.queue_work_on(cpu, *queues[static_cast<std::size_t>(i % queue_count)], work))
      die("an idle work was refused");
  }
  long pending = 0;
  for (Item& item : items) pending += item.work.is_pending() ? 1 : 0;
  const long after = resident_bytes();
  const long heap_pending = heap_bytes();
  if (pending != item_count || runs.load() != 0) die(std::to_string(pending) + " items are pending");

  const auto start = platform::Clock::now();
  engine.thaw_workqueues();
  for (const auto& queue : queues) engine.flush_workqueue(*queue);
  const double seconds = std::chrono::duration<double>(platform::Clock::now() - start).count();
  if (runs.load() != item_count) die(std::to_string(runs.load()) + " items have run");
  for (const Item& item : items) {
    if (item.own_runs != 1) die("an item has run " + std::to_string(item.own_runs) + " times");
  }

  std::printf("%ld workqueues on %zu CPUs, %ld items pending at once: all have run, once each, within %.2f s\n",
              queue_count, cpus.size(), item_count, seconds);
  std::printf("an idle work: %zu bytes, a delayed one: %zu\n", sizeof(Work), sizeof(DelayedWork));
  std::printf("a workqueue: %ld bytes of heap\n", (heap_queues - heap_before) / queue_count);
  std::printf("a pending item: %.3f bytes of heap, %.3f of resident memory, beside the work itself\n",
              static_cast<double>(heap_pending - heap_items) / static_cast<double>(item_count),
              static_cast<double>(after - before) / static_cast<double>(item_count));
  return sizeof(Work) <= 64 ? 0 : 1;
}
