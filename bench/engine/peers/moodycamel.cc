// SPDX-License-Identifier: Apache-2.0
#include <concurrentqueue/concurrentqueue.h>

#include "bench/engine/peers/bare_queue.h"
#include "bench/engine/peers/found.h"

namespace bench {

namespace {

using Queue = moodycamel::ConcurrentQueue<BareClosure>;

class MoodycamelSession : public Session {
 public:
  explicit MoodycamelSession(Queue& queue) : queue_(queue), token_(queue) {}
  void submit(Function function, void* context) override { queue_.enqueue(token_, {function, context}); }
  void submit_many(std::size_t count, Function function, void* context) override {
    for (std::size_t i = 0; i < count; i++) queue_.enqueue(token_, {function, context});
  }

 private:
  Queue& queue_;
  moodycamel::ProducerToken token_;
};

class MoodycamelPool : public Pool {
 public:
  explicit MoodycamelPool(const PoolOptions& options) {
    workers_.start(options.cpus, [this](BareClosure* closures, std::size_t count) {
      return queue_.try_dequeue_bulk(closures, count);
    });
  }
  ~MoodycamelPool() override { workers_.stop(); }
  MoodycamelPool(const MoodycamelPool&) = delete;
  MoodycamelPool& operator=(const MoodycamelPool&) = delete;
  std::unique_ptr<Session> session(std::size_t) override { return std::make_unique<MoodycamelSession>(queue_); }

 private:
  Queue queue_;
  BareWorkers workers_;
};

}  // namespace

PoolKind moodycamel_pool() {
  return {
      .name = "ConcurrentQueue",
      .version = "moodycamel, Debian",
      .make = [](const PoolOptions& options) -> std::unique_ptr<Pool> {
        return std::make_unique<MoodycamelPool>(options);
      },
      .settings =
          [](const PoolOptions&) { return std::string("consumers poll in bursts of 32 and yield; never asleep"); },
  };
}

}  // namespace bench
