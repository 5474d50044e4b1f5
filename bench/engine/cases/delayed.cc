// SPDX-License-Identifier: Apache-2.0
// Delayed works: how far from their time they start.
#include <fmt/format.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/cases/timer_peers.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/ours.h"
#include "bench/engine/statistics.h"

namespace bench {

Sample TimerErrors::sample(const Usage& usage) const {
  std::vector<double> errors;
  for (const Expiry& one : expiries) {
    errors.push_back(std::fabs(std::chrono::duration<double, std::nano>(one.started - one.due).count()));
  }
  Sample sample;
  sample.usage = usage;
  sample.value = percentile(errors, 0.99);
  sample.more["p50 ns"] = percentile(errors, 0.50);
  sample.more["max ns"] = percentile(errors, 1);
  return sample;
}

std::vector<std::chrono::nanoseconds> TimerErrors::delays() {
  // 2 to 52 ms, 247 us apart: no two at once, and none on a whole millisecond.
  std::vector<std::chrono::nanoseconds> all;
  for (int i = 0; i < kTimers; i++) all.emplace_back(2'000'000 + i * 247'000);
  return all;
}

namespace {

struct Timed {
  void expired(upci::Work&) { errors->expired(number, TimerErrors::Clock::now()); }
  TimerErrors* errors = nullptr;
  std::size_t number = 0;
  upci::DelayedWork work{this, &Timed::expired};
};

Sample run_ours() {
  const auto engine = make_engine();
  TimerErrors errors;
  std::vector<Timed> works(TimerErrors::kTimers);
  const auto delays = TimerErrors::delays();
  const Meter meter;
  for (std::size_t i = 0; i < works.size(); i++) {
    works[i].errors = &errors;
    works[i].number = i;
    errors.expiries[i].due = TimerErrors::Clock::now() + delays[i];
    engine->queue_delayed_work_on(worker_cpu(), engine->system_wq(), works[i].work, delays[i]);
  }
  errors.gate.wait();
  return errors.sample(meter.read());
}

Sample run_timerfd() {
  TimerErrors errors;
  const auto delays = TimerErrors::delays();
  const Meter meter;
  std::thread sleeper([&] {
    pin(worker_cpu());
    const int timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    const auto start = TimerErrors::Clock::now();
    for (std::size_t i = 0; i < delays.size(); i++) {
      errors.expiries[i].due = start + delays[i];
      const auto due = std::chrono::duration_cast<std::chrono::nanoseconds>(errors.expiries[i].due.time_since_epoch());
      itimerspec once{};
      once.it_value = {.tv_sec = due.count() / 1'000'000'000, .tv_nsec = due.count() % 1'000'000'000};
      ::timerfd_settime(timer, TFD_TIMER_ABSTIME, &once, nullptr);
      std::uint64_t count = 0;
      if (::read(timer, &count, sizeof count) < 0) refused("read of a timerfd failed");
      errors.expired(i, TimerErrors::Clock::now());
    }
    ::close(timer);
  });
  sleeper.join();
  return errors.sample(meter.read());
}

Case accuracy() {
  Case one;
  one.name = "delayed-error";
  one.title = "delayed work: start less due time, 99th percentile";
  one.unit = "ns";
  one.method =
      fmt::format("{} timers of one CPU's worker, armed at once, 2 to 52 ms, 247 us apart.", TimerErrors::kTimers);
  one.targets = {{.against = Target::Against::kBestPeer, .ratio = 1.0}};
  one.contestants.push_back({.kind = Contestant::Kind::kOurs,
                             .name = "upci",
                             .settings = fmt::format("queue_delayed_work_on(CPU {})", worker_cpu()),
                             .run = run_ours});
  for (Contestant& peer : timer_error_peers()) one.contestants.push_back(std::move(peer));
  one.contestants.push_back({.kind = Contestant::Kind::kFloor,
                             .name = "timerfd",
                             .settings = "a pinned thread in read, one absolute time after the other",
                             .run = run_timerfd});
  one.remark = "libuv's timers have milliseconds: it is asked for the next whole one.";
  return one;
}

}  // namespace

std::vector<Case> delayed_cases() {
  std::vector<Case> cases;
  cases.push_back(accuracy());
  cases.push_back(armed_timers_case());
  return cases;
}

}  // namespace bench
