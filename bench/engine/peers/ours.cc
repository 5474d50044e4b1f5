// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/peers/ours.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

namespace bench {

namespace {

class OurSession : public Session {
 public:
  OurSession(upci::Engine& engine, upci::Workqueue& queue, int cpu, std::size_t capacity)
      : engine_(engine), queue_(queue), cpu_(cpu), works_(capacity) {}

  void submit(Function function, void* context) override { queue_one(function, context); }
  void submit_many(std::size_t count, Function function, void* context) override {
    for (std::size_t i = 0; i < count; i++) queue_one(function, context);
  }

 private:
  void queue_one(Function function, void* context) {
    ClosureWork& work = works_[next_];
    if (++next_ == works_.size()) next_ = 0;
    work.function = function;
    work.context = context;
    if (!engine_.queue_work_on(cpu_, queue_, work))
      refused("queue_work refused: the work is still pending, or the engine has no such CPU");
  }

  upci::Engine& engine_;
  upci::Workqueue& queue_;
  const int cpu_;
  std::vector<ClosureWork> works_;
  std::size_t next_ = 0;
};

class OurPool : public Pool {
 public:
  OurPool(const PoolOptions& options, upci::WqFlags flags)
      : engine_(make_engine(options.spin)),
        queue_(make_queue(*engine_, flags)),
        cpu_(options.cpus.size() == 1 ? options.cpus.front() : upci::Engine::kAnyCpu) {}
  std::unique_ptr<Session> session(std::size_t capacity) override {
    return std::make_unique<OurSession>(*engine_, *queue_, cpu_, capacity);
  }

 private:
  std::unique_ptr<upci::Engine> engine_;
  upci::WorkqueuePtr queue_;
  int cpu_;
};

}  // namespace

void refused(const char* what) {
  std::fprintf(stderr, "engine_bench: %s\n", what);
  std::exit(1);
}

std::unique_ptr<upci::Engine> make_engine(std::chrono::nanoseconds spin) {
  auto topology = upci::Topology::detect();
  if (!topology) refused(topology.error().message().c_str());
  upci::Engine::Options options;
  options.topology = std::move(*topology);
  options.spin = spin;
  auto engine = upci::Engine::create(std::move(options));
  if (!engine) refused(engine.error().message().c_str());
  return std::move(*engine);
}

upci::WorkqueuePtr make_queue(upci::Engine& engine, upci::WqFlags flags) {
  auto queue = engine.alloc_workqueue("bench", flags);
  if (!queue) refused(queue.error().message().c_str());
  return std::move(*queue);
}

PoolKind our_pool() {
  return {
      .name = "upci",
      .version = "this tree",
      .make = [](const PoolOptions& options) -> std::unique_ptr<Pool> {
        return std::make_unique<OurPool>(options, upci::kWqPercpu);
      },
      .settings =
          [](const PoolOptions& options) {
            return options.cpus.size() == 1
                       ? fmt::format("per-CPU queue, queue_work_on(CPU {}), works preallocated", options.cpus.front())
                       : std::string("per-CPU queue, queue_work (the caller's CPU), works preallocated");
          },
  };
}

PoolKind our_unbound_pool() {
  return {
      .name = "upci, unbound",
      .version = "this tree",
      .make = [](const PoolOptions& options) -> std::unique_ptr<Pool> {
        return std::make_unique<OurPool>(options, upci::kWqUnbound);
      },
      .settings = [](const PoolOptions&) { return std::string("unbound queue, workers on all CPUs, not pinned"); },
  };
}

}  // namespace bench
