// SPDX-License-Identifier: Apache-2.0
// libuv's pool is one for the process; its size is read once, from UV_THREADPOOL_SIZE, when it is first used. So this
// program sets it to the largest that a case asks for, and a case with fewer CPUs keeps the rest asleep in a closure.
#include <fmt/format.h>
#include <uv.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/futex.h"
#include "bench/engine/peers/found.h"

namespace bench {

namespace {

std::size_t threads_of_process() { return machine_cpus().size(); }

class UvSession : public Session {
 public:
  explicit UvSession(std::size_t capacity) : requests_(capacity) { uv_loop_init(&loop_); }
  ~UvSession() override {
    settle();
    uv_loop_close(&loop_);
  }
  UvSession(const UvSession&) = delete;
  UvSession& operator=(const UvSession&) = delete;

  void submit(Function function, void* context) override { queue(function, context); }
  void submit_many(std::size_t count, Function function, void* context) override {
    for (std::size_t i = 0; i < count; i++) queue(function, context);
  }
  /// Runs the loop until all closures have been run and reported.
  void settle() override { uv_run(&loop_, UV_RUN_DEFAULT); }

 private:
  struct Request {
    uv_work_t work;
    Function function;
    void* context;
  };
  void queue(Function function, void* context) {
    Request& request = requests_[next_];
    if (++next_ == requests_.size()) next_ = 0;
    request.function = function;
    request.context = context;
    request.work.data = &request;
    uv_queue_work(
        &loop_, &request.work,
        [](uv_work_t* work) {
          const auto* self = static_cast<const Request*>(work->data);
          self->function(self->context);
        },
        [](uv_work_t*, int) {});
  }

  uv_loop_t loop_;
  std::vector<Request> requests_;
  std::size_t next_ = 0;
};

class UvPool : public Pool {
 public:
  explicit UvPool(const PoolOptions& options) : session_(2 * threads_of_process()) {
    // Those of the process's threads that this case must not have.
    const std::size_t surplus = threads_of_process() - std::min(threads_of_process(), options.cpus.size());
    held_.expect(static_cast<std::uint32_t>(surplus));
    session_.submit_many(
        surplus,
        [](void* context) {
          auto& self = *static_cast<UvPool*>(context);
          self.held_.done();
          self.release_.wait();
        },
        this);
    if (surplus != 0) held_.wait();
    // Not start_and_pin: settle() would wait for those that are held.
    struct Pinning {
      const std::vector<int>& cpus;
      std::atomic<std::size_t> turn{0};
      std::atomic<std::size_t> arrived{0};
      Gate gate;
    } pinning{.cpus = options.cpus, .gate = {}};
    pinning.gate.expect(static_cast<std::uint32_t>(options.cpus.size()));
    session_.submit_many(
        options.cpus.size(),
        [](void* context) {
          auto& all = *static_cast<Pinning*>(context);
          pin(all.cpus[all.turn.fetch_add(1) % all.cpus.size()]);
          all.arrived.fetch_add(1);
          while (all.arrived.load() < all.cpus.size()) sched_yield();
          all.gate.done();
        },
        &pinning);
    pinning.gate.wait();
  }
  ~UvPool() override {
    release_.set();
    session_.settle();
  }
  UvPool(const UvPool&) = delete;
  UvPool& operator=(const UvPool&) = delete;
  std::unique_ptr<Session> session(std::size_t capacity) override { return std::make_unique<UvSession>(capacity); }

 private:
  Gate held_;
  Flag release_;
  UvSession session_;
};

}  // namespace

PoolKind uv_pool() {
  const std::string size = std::to_string(threads_of_process());
  ::setenv("UV_THREADPOOL_SIZE", size.c_str(), 1);
  return {
      .name = "libuv",
      .version = uv_version_string(),
      .make = [](const PoolOptions& options) -> std::unique_ptr<Pool> { return std::make_unique<UvPool>(options); },
      .settings =
          [](const PoolOptions& options) {
            return fmt::format("uv_queue_work, {} threads, pinned; a loop for each producer, requests preallocated",
                               options.cpus.size());
          },
  };
}

}  // namespace bench
