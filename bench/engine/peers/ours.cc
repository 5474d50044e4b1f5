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
  OurSession(upci::Engine& engine, int cpu, std::size_t capacity) : engine_(engine), cpu_(cpu), works_(capacity) {}

  void submit(Function function, void* context) override { queue(function, context); }
  void submit_many(std::size_t count, Function function, void* context) override {
    for (std::size_t i = 0; i < count; i++) queue(function, context);
  }

 private:
  void queue(Function function, void* context) {
    ClosureWork& work = works_[next_];
    if (++next_ == works_.size()) next_ = 0;
    work.function = function;
    work.context = context;
    if (!engine_.queue_work_on(cpu_, engine_.system_wq(), work))
      refused("queue_work refused: the work is still pending, or the engine has no such CPU");
  }

  upci::Engine& engine_;
  const int cpu_;
  std::vector<ClosureWork> works_;
  std::size_t next_ = 0;
};

class OurPool : public Pool {
 public:
  explicit OurPool(const PoolOptions& options)
      : engine_(make_engine(options.spin)),
        cpu_(options.cpus.size() == 1 ? options.cpus.front() : upci::Engine::kAnyCpu) {}
  std::unique_ptr<Session> session(std::size_t capacity) override {
    return std::make_unique<OurSession>(*engine_, cpu_, capacity);
  }

 private:
  std::unique_ptr<upci::Engine> engine_;
  int cpu_;
};

// A template, so that the program is also built with an engine that knows no such option.
template <class Options>
void set_spin(Options& options, std::chrono::nanoseconds spin) {
  if constexpr (requires { options.spin = spin; }) {
    options.spin = spin;
  } else if (spin.count() != 0) {
    refused("this engine has no spin budget");
  }
}

template <class Options>
consteval bool has_spin() {
  return requires(Options options) { options.spin; };
}

}  // namespace

bool our_engine_can_spin() { return has_spin<upci::Engine::Options>(); }

void refused(const char* what) {
  std::fprintf(stderr, "engine_bench: %s\n", what);
  std::exit(1);
}

std::unique_ptr<upci::Engine> make_engine(std::chrono::nanoseconds spin) {
  auto topology = upci::Topology::detect();
  if (!topology) refused(topology.error().message().c_str());
  upci::Engine::Options options;
  options.topology = std::move(*topology);
  set_spin(options, spin);
  auto engine = upci::Engine::create(std::move(options));
  if (!engine) refused(engine.error().message().c_str());
  return std::move(*engine);
}

PoolKind our_pool() {
  return {
      .name = "upci",
      .version = "this tree",
      .make = [](const PoolOptions& options) -> std::unique_ptr<Pool> { return std::make_unique<OurPool>(options); },
      .settings =
          [](const PoolOptions& options) {
            return options.cpus.size() == 1
                       ? fmt::format("queue_work_on(CPU {}), works preallocated and used again", options.cpus.front())
                       : std::string("queue_work (the caller's CPU), works preallocated and used again");
          },
  };
}

}  // namespace bench
