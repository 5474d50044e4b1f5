// SPDX-License-Identifier: Apache-2.0
// What single operations of the engine cost whoever calls them. Nothing here waits for a worker: engine_bench does that.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "workqueue/engine.h"

namespace {

std::unique_ptr<upci::Engine> make_engine() {
  auto engine = upci::Engine::create();
  if (engine) return std::move(*engine);
  std::fprintf(stderr, "engine_operations: %s\n", engine.error().message().c_str());
  std::exit(1);
}

void nothing(upci::Work&) {}

/// Disabled or armed, a work stays where it is: the operations below meet it in a known state.
constexpr std::chrono::hours kFar(1);

void queue_work_that_is_pending(benchmark::State& state) {
  const auto engine = make_engine();
  upci::DelayedWork work(&nothing);
  engine->queue_delayed_work(engine->system_wq(), work, kFar);  // holds PENDING
  for (auto _ : state) benchmark::DoNotOptimize(engine->queue_work(engine->system_wq(), work.work()));
  engine->cancel_delayed_work_sync(work);
}
BENCHMARK(queue_work_that_is_pending);

void queue_work_that_is_disabled(benchmark::State& state) {
  const auto engine = make_engine();
  upci::Work work(&nothing);
  engine->disable_work(work);
  for (auto _ : state) benchmark::DoNotOptimize(engine->queue_work(engine->system_wq(), work));
  engine->enable_work(work);
}
BENCHMARK(queue_work_that_is_disabled);

void disable_and_enable_work(benchmark::State& state) {
  const auto engine = make_engine();
  upci::Work work(&nothing);
  for (auto _ : state) {
    benchmark::DoNotOptimize(engine->disable_work(work));
    benchmark::DoNotOptimize(engine->enable_work(work));
  }
}
BENCHMARK(disable_and_enable_work);

void cancel_idle_work(benchmark::State& state) {
  const auto engine = make_engine();
  upci::Work work(&nothing);
  for (auto _ : state) benchmark::DoNotOptimize(engine->cancel_work(work));
}
BENCHMARK(cancel_idle_work);

void flush_idle_work(benchmark::State& state) {
  const auto engine = make_engine();
  upci::Work work(&nothing);
  engine->schedule_work(work);
  engine->flush_work(work);  // it knows its pool now
  for (auto _ : state) benchmark::DoNotOptimize(engine->flush_work(work));
}
BENCHMARK(flush_idle_work);

void arm_and_cancel_delayed_work(benchmark::State& state) {
  const auto engine = make_engine();
  std::vector<std::unique_ptr<upci::DelayedWork>> armed;
  for (std::int64_t i = 0; i < state.range(0); i++) {
    armed.push_back(std::make_unique<upci::DelayedWork>(&nothing));
    engine->queue_delayed_work(engine->system_wq(), *armed.back(), kFar + std::chrono::microseconds(i));
  }
  upci::DelayedWork work(&nothing);
  for (auto _ : state) {
    engine->queue_delayed_work(engine->system_wq(), work, 2 * kFar);
    benchmark::DoNotOptimize(engine->cancel_delayed_work(work));
  }
  for (const auto& one : armed) engine->cancel_delayed_work_sync(*one);
}
BENCHMARK(arm_and_cancel_delayed_work)->Arg(0)->Arg(1000)->Arg(100'000);

/// From the caller's side: with its worker and its waking, since they share a CPU at times.
void queue_and_flush_work(benchmark::State& state) {
  const auto engine = make_engine();
  upci::Work work(&nothing);
  for (auto _ : state) {
    engine->schedule_work(work);
    engine->flush_work(work);
  }
}
BENCHMARK(queue_and_flush_work)->UseRealTime();

void create_and_destroy_engine(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(make_engine());
}
BENCHMARK(create_and_destroy_engine)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
