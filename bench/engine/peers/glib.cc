// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <glib.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "bench/engine/peers/found.h"

namespace bench {

namespace {

// GThreadPool hands a pointer to one function: the closures lie in an array, as our works do.
struct Closure {
  Function function = nullptr;
  void* context = nullptr;
};

void call(gpointer data, gpointer) {
  const auto* closure = static_cast<const Closure*>(data);
  closure->function(closure->context);
}

class GlibSession : public Session {
 public:
  GlibSession(GThreadPool* pool, std::size_t capacity) : pool_(pool), closures_(capacity) {}
  void submit(Function function, void* context) override { push(function, context); }
  void submit_many(std::size_t count, Function function, void* context) override {
    for (std::size_t i = 0; i < count; i++) push(function, context);
  }

 private:
  void push(Function function, void* context) {
    Closure& closure = closures_[next_];
    if (++next_ == closures_.size()) next_ = 0;
    closure = {.function = function, .context = context};
    g_thread_pool_push(pool_, &closure, nullptr);
  }

  GThreadPool* pool_;
  std::vector<Closure> closures_;
  std::size_t next_ = 0;
};

class GlibPool : public Pool {
 public:
  explicit GlibPool(const PoolOptions& options)
      : pool_(g_thread_pool_new(&call, nullptr, static_cast<gint>(options.cpus.size()), TRUE, nullptr)) {
    if (pool_ == nullptr) {
      std::fputs("engine_bench: g_thread_pool_new failed\n", stderr);
      std::exit(1);
    }
    GlibSession session(pool_, options.cpus.size());
    start_and_pin(session, options.cpus);
  }
  ~GlibPool() override { g_thread_pool_free(pool_, FALSE, TRUE); }
  GlibPool(const GlibPool&) = delete;
  GlibPool& operator=(const GlibPool&) = delete;
  std::unique_ptr<Session> session(std::size_t capacity) override {
    return std::make_unique<GlibSession>(pool_, capacity);
  }

 private:
  GThreadPool* pool_;
};

}  // namespace

PoolKind glib_pool() {
  return {
      .name = "GThreadPool",
      .version = fmt::format("{}.{}.{}", glib_major_version, glib_minor_version, glib_micro_version),
      .make = [](const PoolOptions& options) -> std::unique_ptr<Pool> { return std::make_unique<GlibPool>(options); },
      .settings =
          [](const PoolOptions& options) {
            return fmt::format("{} exclusive threads, pinned, closures preallocated", options.cpus.size());
          },
  };
}

}  // namespace bench
