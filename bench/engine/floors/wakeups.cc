// SPDX-License-Identifier: Apache-2.0
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/clock.h"
#include "bench/engine/floors/floors.h"
#include "bench/engine/futex.h"
#include "bench/engine/statistics.h"

namespace bench {

namespace {

Sample of(const std::vector<double>& times, const Meter& meter) {
  Sample sample;
  sample.usage = meter.read();
  sample.value = median(times);
  sample.more["p99 ns"] = percentile(times, 0.99);
  return sample;
}

}  // namespace

Sample futex_wake_floor(int rounds, double gap) {
  const PinScope pinned(submitter_cpu());
  struct Shared {
    std::atomic<std::uint32_t> word{0};
    alignas(64) std::atomic<std::uint64_t> started{0};
  } shared;
  std::atomic<bool> ready{false};
  std::thread sleeper([&shared, &ready, rounds] {
    pin(worker_cpu());
    ready.store(true);
    for (int i = 0; i < rounds; i++) {
      while (shared.word.load(std::memory_order_acquire) == 0) futex_wait(shared.word, 0);
      shared.word.store(0, std::memory_order_relaxed);
      shared.started.store(ticks(), std::memory_order_release);
    }
  });
  while (!ready.load()) relax();
  spin_for(gap);
  std::vector<double> times;
  const Meter meter;
  for (int i = 0; i < rounds; i++) {
    shared.started.store(0, std::memory_order_relaxed);
    spin_for(gap);
    const std::uint64_t start = ticks();
    shared.word.store(1, std::memory_order_release);
    futex_wake(shared.word);
    std::uint64_t at = 0;
    while ((at = shared.started.load(std::memory_order_acquire)) == 0) relax();
    times.push_back(nanoseconds(start, at));
  }
  Sample sample = of(times, meter);
  sleeper.join();
  return sample;
}

Sample futex_round_trip_floor(int rounds) {
  const PinScope pinned(submitter_cpu());
  struct Shared {
    alignas(64) std::atomic<std::uint32_t> there{0};
    alignas(64) std::atomic<std::uint32_t> back{0};
  } shared;
  std::thread other([&shared, rounds] {
    pin(worker_cpu());
    for (int i = 0; i < rounds; i++) {
      while (shared.there.load(std::memory_order_acquire) == 0) futex_wait(shared.there, 0);
      shared.there.store(0, std::memory_order_relaxed);
      shared.back.store(1, std::memory_order_release);
      futex_wake(shared.back);
    }
  });
  std::vector<double> times;
  const Meter meter;
  for (int i = 0; i < rounds; i++) {
    const std::uint64_t start = ticks();
    shared.there.store(1, std::memory_order_release);
    futex_wake(shared.there);
    while (shared.back.load(std::memory_order_acquire) == 0) futex_wait(shared.back, 0);
    shared.back.store(0, std::memory_order_relaxed);
    times.push_back(nanoseconds(start, ticks()));
  }
  Sample sample = of(times, meter);
  other.join();
  return sample;
}

Sample cache_line_floor() {
  constexpr std::uint32_t kRounds = 20000;
  const PinScope pinned(submitter_cpu());
  alignas(64) std::atomic<std::uint32_t> line{0};
  std::thread other([&line] {
    pin(worker_cpu());
    for (std::uint32_t turn = 1; turn < 2 * kRounds; turn += 2) {
      while (line.load(std::memory_order_acquire) != turn) {}
      line.store(turn + 1, std::memory_order_release);
    }
  });
  std::vector<double> times;
  const Meter meter;
  std::uint64_t start = 0;
  for (std::uint32_t turn = 0; turn < 2 * kRounds; turn += 2) {
    if (turn % 200 == 0) {
      if (turn != 0) times.push_back(nanoseconds(start, ticks()) / 200);
      start = ticks();
    }
    line.store(turn + 1, std::memory_order_release);
    while (line.load(std::memory_order_acquire) != turn + 2) {}
  }
  Sample sample = of(times, meter);
  other.join();
  return sample;
}

Sample same_cpu_eventfd_floor(int rounds) {
  const int event = ::eventfd(0, EFD_CLOEXEC);
  std::atomic<std::uint64_t> woken{0};
  std::vector<double> times;
  std::thread waiter([&] {
    pin(worker_cpu());
    for (int i = 0; i < rounds; i++) {
      std::uint64_t count = 0;
      if (::read(event, &count, sizeof count) < 0) return;
      woken.store(ticks(), std::memory_order_release);
    }
  });
  const Meter meter;
  std::thread writer([&] {
    pin(worker_cpu());
    const timespec millisecond{.tv_sec = 0, .tv_nsec = 1'000'000};
    for (int i = 0; i < rounds; i++) {
      ::nanosleep(&millisecond, nullptr);
      woken.store(0);
      const std::uint64_t one = 1;
      const std::uint64_t start = ticks();
      if (::write(event, &one, sizeof one) < 0) return;
      ::nanosleep(&millisecond, nullptr);
      while (woken.load(std::memory_order_acquire) == 0) ::sched_yield();
      times.push_back(nanoseconds(start, woken.load()));
    }
  });
  writer.join();
  waiter.join();
  Sample sample = of(times, meter);
  ::close(event);
  return sample;
}

}  // namespace bench
