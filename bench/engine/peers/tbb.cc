// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_scheduler_observer.h>
#include <tbb/version.h>

#include "bench/engine/affinity.h"
#include "bench/engine/peers/found.h"
#include "bench/engine/peers/tbb_arena.h"

namespace bench {

TbbArena::TbbArena(const std::vector<int>& cpus)
    : limit_(tbb::global_control::max_allowed_parallelism, cpus.size() + 1),
      arena(static_cast<int>(cpus.size()), 0),
      observer_(arena, cpus) {}

void TbbArena::Observer::on_scheduler_entry(bool worker) {
  if (worker) pin(cpus_[static_cast<std::size_t>(tbb::this_task_arena::current_thread_index()) % cpus_.size()]);
}

namespace {

class TbbSession : public Session {
 public:
  explicit TbbSession(tbb::task_arena& arena) : arena_(arena) {}
  void submit(Function function, void* context) override {
    arena_.enqueue([function, context] { function(context); });
  }
  void submit_many(std::size_t count, Function function, void* context) override {
    for (std::size_t i = 0; i < count; i++) arena_.enqueue([function, context] { function(context); });
  }

 private:
  tbb::task_arena& arena_;
};

class TbbPool : public Pool {
 public:
  explicit TbbPool(const PoolOptions& options) : arena_(options.cpus) {}
  std::unique_ptr<Session> session(std::size_t) override { return std::make_unique<TbbSession>(arena_.arena); }

 private:
  TbbArena arena_;
};

}  // namespace

PoolKind tbb_pool() {
  return {
      .name = "oneTBB",
      .version = TBB_runtime_version(),
      .make = [](const PoolOptions& options) -> std::unique_ptr<Pool> { return std::make_unique<TbbPool>(options); },
      .settings =
          [](const PoolOptions& options) {
            return fmt::format(
                "task_arena({}, 0).enqueue, workers pinned by an observer; it always spins before it sleeps",
                options.cpus.size());
          },
  };
}

}  // namespace bench
