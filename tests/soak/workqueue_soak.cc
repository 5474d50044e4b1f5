// SPDX-License-Identifier: Apache-2.0
// Everything that a workqueue engine can be asked for, at once, for as long as one likes: more producers than CPUs queue,
// cancel, flush, delay, disable; one thread changes limits, attributes and CPUs, freezes, makes and destroys queues.
// Checked all the while: no work overlaps itself (rule 5), max_active and order hold (11, 13), nothing runs after a
// cancel_sync (20); and at the end: each true was one run or one taking back (rule 1), and memory has not grown.
//
//   workqueue_soak [--seconds N] [--seed S] [--machine 1]   on real threads; with the CPUs that the machine has (at least 4),
//                                                           which may come and go meanwhile
//   workqueue_soak_sim [--seeds N] [--seed S]      the same in simulation, N interleavings
#include <malloc.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/platform.h"
#include "base/wait.h"
#include "workqueue/engine.h"
#include "workqueue/snapshot.h"

namespace upci::inline UPCI_VARIANT {
namespace {

using namespace std::chrono_literals;

constexpr unsigned kProducers = 8;
constexpr int kCpus = 4;
constexpr int kMostActive = 4;

[[noreturn]] void die(const std::string& what) {
#if defined(UPCI_SIM)
  platform::sim::fail_run(what);
#else
  std::fprintf(stderr, "workqueue_soak: %s\n", what.c_str());
  std::_Exit(1);
#endif
}

void check(bool holds, const char* what) {
  if (!holds) [[unlikely]]
    die(what);
}

/// xorshift64*: its own per thread, so that a seed means the same on each machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 0x1234567ULL) {}
  unsigned below(unsigned limit) {
    state_ ^= state_ >> 12U;
    state_ ^= state_ << 25U;
    state_ ^= state_ >> 27U;
    return static_cast<unsigned>((state_ * 0x2545F4914F6CDD1DULL) >> 33U) % limit;
  }

 private:
  std::uint64_t state_;
};

struct Soak;

/// A work, and the account of it: queued = run + taken back.
struct Item {
  Item(Soak& of, Workqueue& on, bool limited) : soak(of), queue(on), counts_active(limited) {}
  void run(Work&);

  Soak& soak;
  Workqueue& queue;
  const bool counts_active;
  platform::Atomic<int> inside{0};
  platform::Atomic<long> queued{0};
  platform::Atomic<long> taken{0};
  platform::Atomic<long> runs{0};
  DelayedWork work{this, &Item::run};
};

/// One of an ordered queue. Queued again only when it has run.
struct Numbered {
  explicit Numbered(Soak& of) : soak(of) {}
  void run(Work&);
  Soak& soak;
  std::uint64_t number = 0;  // the queueing caller's while idle is set, then the run's
  platform::Atomic<int> idle{1};
  Work work{this, &Numbered::run};
};

struct Plan {
  std::uint64_t seed = 1;
  platform::TimePoint end = platform::kNever;  // real
  unsigned rounds = 0;                         // simulated: of each thread; 0: until the end
  const Topology& topology;
};

struct Soak {
  explicit Soak(const Plan& the_plan) : plan(the_plan) {}
  void run();
  bool goes_on(unsigned round) const {
    return plan.rounds != 0 ? round < plan.rounds : platform::Clock::now() < plan.end;
  }
  void produce(unsigned number);
  void change();
  void step(Random& random);
  void number_one(Random& random);
  void come_and_go(Random& random);
  void settle();

  const Plan plan;
  std::unique_ptr<Engine> engine;
  std::vector<WorkqueuePtr> queues;
  WorkqueuePtr ordered;
  std::vector<std::unique_ptr<Item>> items;    // queued, cancelled, disabled, flushed
  std::vector<std::unique_ptr<Item>> delayed;  // delayed, modified, cancelled: never disabled, never drained
  std::vector<std::unique_ptr<Numbered>> numbered;
  platform::Mutex order;
  std::uint64_t next_number = 0;                       // order
  platform::Atomic<std::uint64_t> expected_number{0};  // the next one to run
  platform::Atomic<int> ordered_inside{0};
  std::array<platform::Atomic<int>, kCpus> active{};  // of the limited queue, by CPU
  platform::Atomic<long> operations{0};
};

void Item::run(Work&) {
  check(inside.fetch_add(1) == 0, "rule 5: two runs of one work overlap");
  const long count = runs.fetch_add(1) + 1;
  const int cpu = counts_active ? soak.engine->current_worker_cpu() : -1;
  if (cpu >= 0) {
    check(soak.active[static_cast<std::size_t>(cpu)].fetch_add(1) < kMostActive, "rule 11: more than max_active");
  }
  if (count % 5 == 0) sleep_for(20us);
  if (count % 7 == 0) platform::this_thread::yield();
  if (cpu >= 0) soak.active[static_cast<std::size_t>(cpu)].fetch_sub(1);
  check(inside.fetch_sub(1) == 1, "rule 5: two runs of one work overlap");
  if (count % 11 == 0 && soak.engine->queue_work(queue, work.work())) queued.fetch_add(1);
}

void Numbered::run(Work&) {
  check(soak.ordered_inside.fetch_add(1) == 0, "rule 13: two items of an ordered queue overlap");
  check(soak.expected_number.fetch_add(1) == number, "rule 13: out of order");
  if (number % 9 == 0) sleep_for(10us);
  soak.ordered_inside.fetch_sub(1);
  idle.store(1);
}

void Soak::number_one(Random& random) {
  std::lock_guard guard(order);
  Numbered& one = *numbered[random.below(static_cast<unsigned>(numbered.size()))];
  if (one.idle.exchange(0) == 0) return;
  one.number = next_number++;
  check(engine->queue_work_on(static_cast<int>(random.below(kCpus)), *ordered, one.work),
        "rule 1: an idle work was refused");
}

/// A queue of one's own, from its making to its end.
void Soak::come_and_go(Random& random) {
  constexpr std::array<WqFlags, 3> kKinds{kWqPercpu, kWqUnbound, kWqUnbound | kWqFreezable};
  auto queue = engine->alloc_workqueue("passing", kKinds[random.below(3)], 1 + static_cast<int>(random.below(3)));
  if (!queue) die("alloc_workqueue: " + queue.error().message());
  std::array<std::unique_ptr<Item>, 3> own;
  for (auto& item : own) {
    item = std::make_unique<Item>(*this, **queue, false);
    check(engine->queue_work_on(static_cast<int>(random.below(kCpus)), **queue, item->work.work()), "rule 1: refused");
  }
  queue->reset();
  for (auto& item : own) check(item->runs.load() == 1 && !item->work.is_pending(), "destroy_workqueue left an item");
}

void Soak::step(Random& random) {
  Item& item = *items[random.below(static_cast<unsigned>(items.size()))];
  Item& late = *delayed[random.below(static_cast<unsigned>(delayed.size()))];
  Work& work = item.work.work();
  const int cpu = static_cast<int>(random.below(kCpus));
  const auto delay = std::chrono::microseconds(random.below(300));
  switch (random.below(20)) {
    case 0:
      if (engine->cancel_work(work)) item.taken.fetch_add(1);
      break;
    case 1:
      if (engine->cancel_work_sync(work)) item.taken.fetch_add(1);
      break;
    case 2: engine->flush_work(work); break;
    case 3:
      if (engine->disable_work_sync(work)) item.taken.fetch_add(1);
      check(item.inside.load() == 0 && !work.is_pending(), "rule 20: it runs or is pending after disable_work_sync");
      check(!engine->queue_work(item.queue, work), "rule 22: a disabled work was queued");
      engine->enable_work(work);
      break;
    case 4:
    case 5:
      if (engine->queue_delayed_work_on(cpu, late.queue, late.work, delay)) late.queued.fetch_add(1);
      break;
    case 6:
      if (!engine->mod_delayed_work_on(cpu, late.queue, late.work, delay)) late.queued.fetch_add(1);
      break;
    case 7:
      if (engine->cancel_delayed_work(late.work)) late.taken.fetch_add(1);
      break;
    case 8: engine->flush_delayed_work(late.work); break;
    case 9: engine->flush_workqueue(item.queue); break;
    case 10:
    case 11:
    case 12: number_one(random); break;
    case 13: come_and_go(random); break;
    default:
      if (engine->queue_work_on(cpu, item.queue, work)) item.queued.fetch_add(1);
  }
  operations.fetch_add(1, std::memory_order_relaxed);
}

void Soak::produce(unsigned number) {
  Random random(plan.seed * 64 + number);
  for (unsigned round = 0; goes_on(round); round++) step(random);
}

/// What an administrator does, or a machine.
void Soak::change() {
  Random random(plan.seed * 64 + kProducers);
  const std::array<CpuSet, 3> masks{CpuSet{0, 1}, CpuSet{1, 2, 3}, CpuSet{0, 1, 2, 3}};
  for (unsigned round = 0; goes_on(round); round++) {
    const int cpu = static_cast<int>(random.below(kCpus));
    Workqueue& unbound = *queues[1];
    switch (random.below(7)) {
      case 0:
        engine->freeze_workqueues();
        sleep_for(50us);
        engine->thaw_workqueues();
        break;
      case 1: check(engine->set_max_active(*queues[2], 1 + cpu).has_value(), "set_max_active"); break;
      case 2: {
        const WorkqueueAttrs attrs{.nice = cpu % 2, .cpumask = masks[random.below(3)], .strict = random.below(2) == 0};
        check(engine->apply_workqueue_attrs(random.below(2) == 0 ? unbound : *ordered, attrs).has_value(),
              "attributes");
        break;
      }
      case 3: check(engine->set_unbound_cpumask(masks[random.below(3)]).has_value(), "set_unbound_cpumask"); break;
      case 4:
        check(engine->cpu_offline(cpu).has_value(), "cpu_offline");
        sleep_for(50us);
        check(engine->cpu_online(cpu).has_value(), "cpu_online");
        break;
      case 5: engine->drain_workqueue(*queues[0]); break;
      default: engine->snapshot(false);
    }
    sleep_for(200us);
  }
}

/// Everything comes to its end; then the accounts must be even.
void Soak::settle() {
  for (const auto& item : delayed) {
    if (engine->cancel_delayed_work_sync(item->work)) item->taken.fetch_add(1);
  }
  for (const auto& queue : queues) engine->flush_workqueue(*queue);
  for (const auto& item : items) {
    while (engine->flush_work(item->work.work())) {}
  }
  engine->flush_workqueue(*ordered);
  for (const auto* list : {&items, &delayed}) {
    for (const auto& item : *list) {
      check(!item->work.is_pending() && item->inside.load() == 0, "an item is left");
      check(item->queued.load() == item->runs.load() + item->taken.load(), "rule 1: a true is not one run");
    }
  }
  check(expected_number.load() == next_number, "rule 13: an ordered item is left");
}

void Soak::run() {
  auto created = Engine::create({.topology = plan.topology, .report = [](const Report& report) {
                                   // Of the drains; everything else would be a mistake of this program or of the engine.
                                   if (report.kind == Report::Kind::kStall) die(report.text);
                                   if (report.kind == Report::Kind::kMisuse) die(report.text);
                                 }});
  if (!created) die(created.error().message());
  engine = std::move(*created);
  const auto make = [this](WqFlags flags, int max_active) {
    auto queue = engine->alloc_workqueue("soak" + std::to_string(queues.size()), flags, max_active);
    if (!queue) die(queue.error().message());
    queues.push_back(std::move(*queue));
  };
  make(kWqPercpu, 0);
  make(kWqUnbound, 0);
  make(kWqPercpu, kMostActive);
  make(kWqPercpu | kWqHighpri | kWqFreezable, 2);
  make(kWqUnbound | kWqMemReclaim, 3);
  make(kWqUnbound, 0);  // the delayed items'
  ordered = std::move(*engine->alloc_ordered_workqueue("ordered"));
  for (std::size_t i = 0; i < 40; i++) items.push_back(std::make_unique<Item>(*this, *queues[i % 5], i % 5 == 2));
  for (std::size_t i = 0; i < 8; i++) delayed.push_back(std::make_unique<Item>(*this, *queues[5], false));
  for (std::size_t i = 0; i < 16; i++) numbered.push_back(std::make_unique<Numbered>(*this));

  std::vector<platform::Thread> threads;
  for (unsigned i = 0; i <= kProducers; i++) {
    auto thread = platform::Thread::create({.name = "soak"}, [this, i] { i < kProducers ? produce(i) : change(); });
    if (!thread) die(thread.error().message());
    threads.push_back(std::move(*thread));
  }
  for (platform::Thread& thread : threads) thread.join();
  settle();
  ordered.reset();
  queues.clear();
  engine.reset();
}

Topology made_up() { return *Topology::synthetic("numa:2 core:2"); }

#if !defined(UPCI_SIM)
Topology of_the_machine() {
  Topology topology = *Topology::detect();
  for (int cpu = 0; cpu < kCpus; cpu++) {
    if (topology.find(cpu) == nullptr) die("CPU " + std::to_string(cpu) + " is missing: the soak takes CPUs 0 to 3");
  }
  return topology;
}

long resident_kib() {
  std::ifstream file("/proc/self/statm");
  long size = 0;
  long resident = 0;
  file >> size >> resident;
  return resident * (::sysconf(_SC_PAGESIZE) / 1024);
}

/// What is allocated: between two engines it must be the same each time. Resident memory need not be: the first report of a
/// thread looks up names, and its arena keeps the megabytes for the next one.
long heap_kib() {
  const struct mallinfo2 info = ::mallinfo2();
  return static_cast<long>((info.uordblks + info.hblkhd) / 1024);
}

/// Round after round, each with an engine of its own, so that what an engine leaves behind is seen, too.
int soak(std::uint64_t seed, platform::Nanoseconds span, bool machine) {
  const Topology topology = machine ? of_the_machine() : made_up();
  std::printf("seed %llu, from now on\n", static_cast<unsigned long long>(seed));  // CPUs may go and come
  std::fflush(stdout);
  const auto start = platform::Clock::now();
  const auto round = std::min<platform::Nanoseconds>(span / 5, 10s);
  [[maybe_unused]] long warm_heap = 0;
  [[maybe_unused]] long warm_resident = 0;
  long operations = 0;
  auto minute = start;
  for (std::uint64_t i = 0; platform::Clock::now() - start < span; i++) {
    {
      auto one =
          std::make_unique<Soak>(Plan{.seed = seed + i, .end = platform::Clock::now() + round, .topology = topology});
      one->run();
      operations += one->operations.load();
    }
    const auto now = platform::Clock::now();
    const long heap = heap_kib();
    const long resident = resident_kib();
    if (i == 1) {
      warm_heap = heap;
      warm_resident = resident;
    }
    if (i == 0 || now - minute >= 60s || now - start >= span) {
      minute = now;
      std::printf("%5lld s: %ld operations, %ld KiB allocated, %ld KiB resident\n",
                  static_cast<long long>(std::chrono::duration_cast<std::chrono::seconds>(now - start).count()),
                  operations, heap, resident);
      std::fflush(stdout);
    }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(UPCI_SOAK_SANITIZED)
    if (i > 1 && heap > warm_heap + 512) die("the heap grows: " + std::to_string(heap) + " KiB");
    if (i > 1 && resident > warm_resident + 128 * 1024)
      die("memory grows: " + std::to_string(resident) + " KiB resident");
#endif
  }
  std::printf("seed %llu: no rule broken\n", static_cast<unsigned long long>(seed));
  return 0;
}
#endif

}  // namespace
}  // namespace upci::inline UPCI_VARIANT

int main(int argc, char** argv) {
  using namespace upci;
  log::set_level(log::Level::kOff);
  std::uint64_t seed = 1;
  [[maybe_unused]] bool machine = false;
  [[maybe_unused]] std::uint64_t amount = 10;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const std::uint64_t value = std::strtoull(argv[i + 1], nullptr, 0);
    if (name == "--seed") {
      seed = value;
    } else if (name == "--seconds" || name == "--seeds") {
      amount = value;
    } else if (name == "--machine") {
      machine = value != 0;
    } else {
      std::fprintf(stderr, "unknown option %s\n", argv[i]);
      return 2;
    }
  }
#if defined(UPCI_SIM)
  const Topology topology = made_up();
  for (std::uint64_t i = seed; i < seed + amount; i++) {
    platform::sim::Options options;
    options.seed = i;
    options.max_steps = 50'000'000;
    const auto outcome = platform::sim::run(options, [i, &topology] {
      auto one = std::make_unique<Soak>(Plan{.seed = i, .rounds = 60, .topology = topology});
      one->run();
    });
    if (outcome.ok()) continue;
    std::fprintf(stderr, "%s\nseed %llu fails; replay: %s --seeds 1 --seed %llu\n", outcome.text.c_str(),
                 static_cast<unsigned long long>(i), argv[0], static_cast<unsigned long long>(i));
    return 1;
  }
  std::printf("%llu interleavings: no rule broken\n", static_cast<unsigned long long>(amount));
  return 0;
#else
  return soak(seed, std::chrono::seconds(amount), machine);
#endif
}
