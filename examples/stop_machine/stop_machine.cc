// SPDX-License-Identifier: Apache-2.0
// stop_machine: each CPU in turn runs a function while all others hold still, with one thread per CPU and nothing else.
//
//   stop_machine [ROUNDS]
//
// The kernel's stop_machine() works like this: a thread on each CPU is woken; all go through the same states together
// (prepare, hold, run, leave), each with a counter of those who have got there; in "run" one of them calls the function.
// Here the CPUs carry coins between their purses all the time, without a lock; only while all hold still does their number
// add up. Other programs of course go on: what stands still is this one.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "base/platform.h"
#include "workqueue/percpu_thread.h"
#include "workqueue/topology.h"

namespace {

using namespace upci;
using platform::Clock;

constexpr int kCoins = 1000;

/// One machine-wide stop at a time.
class StopMachine {
 public:
  explicit StopMachine(std::vector<int> cpus) : cpus_(std::move(cpus)) {}

  struct Times {
    platform::Nanoseconds gather{};  // from the request until all held still
    platform::Nanoseconds function{};
    platform::Nanoseconds release{};  // until all had left
  };

  /// Runs `function` on `cpu` while the threads of all other CPUs hold still. Called by a thread that is none of them.
  Times run(PerCpuThread& threads, int cpu, std::function<void()> function) {
    chosen_ = cpu;
    function_ = std::move(function);
    arrived_.store(0);
    const auto start = Clock::now();
    state_.store(kPrepare);
    threads.wake_all();
    // The last one to leave sets it back, and wakes.
    for (std::uint32_t state = state_.load(); state != kIdle; state = state_.load()) platform::wait_word(state_, state);
    return {.gather = began_ - start, .function = ended_ - began_, .release = left_ - ended_};
  }
  bool wanted() const { return state_.load() != kIdle; }

  /// What each CPU's thread does when it is wanted (the kernel's multi_cpu_stop).
  void hold(int cpu) {
    std::uint32_t seen = kIdle;
    unsigned spins = 0;
    while (seen != kLeave) {
      const std::uint32_t state = state_.load();
      if (state == seen) {
        // Where threads outnumber the CPUs, whoever waits must give way at times.
        if (++spins % 256 == 0) {
          platform::this_thread::yield();
        } else {
          platform::relax();
        }
        continue;
      }
      seen = state;
      if (state == kRun && cpu == chosen_) {
        began_ = Clock::now();
        function_();
        ended_ = Clock::now();
      }
      if (arrived_.fetch_add(1) + 1 == cpus_.size()) {
        if (seen == kLeave) left_ = Clock::now();
        arrived_.store(0);
        state_.store(seen == kLeave ? kIdle : seen + 1);
        if (seen == kLeave) platform::wake_word(&state_, 1);
      }
    }
    // The others may still be on their way out: until then it must not seem to be wanted again.
    while (state_.load() == kLeave) platform::this_thread::yield();
  }

 private:
  static constexpr std::uint32_t kIdle = 0, kPrepare = 1, kRun = 2, kLeave = 3;
  const std::vector<int> cpus_;
  platform::Atomic<std::uint32_t> state_{kIdle};
  platform::Atomic<std::size_t> arrived_{0};
  int chosen_ = 0;                  // written before kPrepare, read after it
  std::function<void()> function_;  // likewise
  platform::TimePoint began_;       // the chosen one's, until the last one leaves
  platform::TimePoint ended_;       // likewise
  platform::TimePoint left_;        // the last one's, likewise
};

/// Coins that wander from purse to purse; on the way they are in nobody's.
class Purses {
 public:
  explicit Purses(std::size_t count) : purses_(count) { purses_[0].store(kCoins); }
  void carry(std::size_t from) {
    const int coin = purses_[from].load() > 0 ? 1 : 0;
    purses_[from].fetch_sub(coin);
    purses_[(from + 1) % purses_.size()].fetch_add(coin);
    moves_.fetch_add(1);
  }
  int sum() const {
    int sum = 0;
    for (const auto& purse : purses_) sum += purse.load();
    return sum;
  }
  std::uint64_t moves() const { return moves_.load(); }

 private:
  std::vector<platform::Atomic<int>> purses_;
  platform::Atomic<std::uint64_t> moves_{0};
};

double us(platform::Nanoseconds span) { return static_cast<double>(span.count()) / 1000; }

int fail_with(const Error& error) {
  std::fprintf(stderr, "stop_machine: %s\n", error.message().c_str());
  if (!error.advice.empty()) std::fprintf(stderr, "  %s\n", error.advice.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 100;
  if (argc > 2 || rounds < 1 || rounds > 1'000'000) {
    std::fprintf(stderr, "usage: stop_machine [ROUNDS]   (1 to 1000000)\n");
    return 2;
  }
  const auto topology = Topology::detect();
  if (!topology) return fail_with(topology.error());
  std::vector<int> cpus;
  const std::vector<int> online = platform::online_cpus();
  for (const Topology::Cpu& cpu : topology->cpus()) {
    if (std::binary_search(online.begin(), online.end(), cpu.os_cpu)) cpus.push_back(cpu.id);
  }
  StopMachine machine(cpus);
  Purses purses(cpus.size());
  platform::Atomic<std::uint32_t> over{0};
  const auto place = [&cpus](int cpu) {
    return static_cast<std::size_t>(std::lower_bound(cpus.begin(), cpus.end(), cpu) - cpus.begin());
  };
  auto threads = PerCpuThread::create(
      *topology, {.name = "stopper/%u",
                  .callbacks = {.thread_should_run = [&](int) { return over.load() == 0 || machine.wanted(); },
                                .thread_fn =
                                    [&](int cpu) {
                                      if (machine.wanted()) return machine.hold(cpu);
                                      purses.carry(place(cpu));
                                    }},
                  .cpus = cpus});
  if (!threads) return fail_with(threads.error());

  std::printf("%zu CPUs, %d rounds each; in us: median and worst\n", cpus.size(), rounds);
  std::printf("CPU   all hold still        function        all go on again\n");
  int wrong = 0;
  for (const int cpu : cpus) {
    std::array<std::vector<double>, 3> times;
    for (int round = 0; round < rounds; ++round) {
      const StopMachine::Times took = machine.run(**threads, cpu, [&] {
        const std::uint64_t moves = purses.moves();
        wrong += purses.sum() != kCoins ? 1 : 0;
        for (int i = 0; i < 1000; ++i) platform::relax();
        wrong += purses.sum() != kCoins || purses.moves() != moves ? 1 : 0;
      });
      times[0].push_back(us(took.gather));
      times[1].push_back(us(took.function));
      times[2].push_back(us(took.release));
    }
    std::printf("%3d", cpu);
    for (std::vector<double>& column : times) {
      std::sort(column.begin(), column.end());
      std::printf(" %8.1f %8.1f", column[column.size() / 2], column.back());
    }
    std::printf("\n");
  }
  over.store(1);
  threads->reset();
  std::printf("%llu coins were carried between the stops; %s\n", static_cast<unsigned long long>(purses.moves()),
              wrong == 0 ? "no CPU moved meanwhile" : "A CPU MOVED WHILE ALL SHOULD HAVE HELD STILL");
  return wrong == 0 ? 0 : 1;
}
