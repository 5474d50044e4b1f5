// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <asio/post.hpp>
#include <asio/thread_pool.hpp>
#include <asio/version.hpp>

#include "bench/engine/peers/found.h"

namespace bench {

namespace {

class AsioSession : public Session {
 public:
  explicit AsioSession(asio::thread_pool& pool) : pool_(pool) {}
  void submit(Function function, void* context) override {
    asio::post(pool_, [function, context] { function(context); });
  }
  void submit_many(std::size_t count, Function function, void* context) override {
    for (std::size_t i = 0; i < count; i++) asio::post(pool_, [function, context] { function(context); });
  }

 private:
  asio::thread_pool& pool_;
};

class AsioPool : public Pool {
 public:
  explicit AsioPool(const PoolOptions& options) : pool_(options.cpus.size()) {
    AsioSession session(pool_);
    start_and_pin(session, options.cpus);
  }
  ~AsioPool() override { pool_.join(); }
  AsioPool(const AsioPool&) = delete;
  AsioPool& operator=(const AsioPool&) = delete;
  std::unique_ptr<Session> session(std::size_t) override { return std::make_unique<AsioSession>(pool_); }

 private:
  asio::thread_pool pool_;
};

}  // namespace

PoolKind asio_pool() {
  return {
      .name = "asio",
      .version = fmt::format("{}.{}.{}", ASIO_VERSION / 100000, ASIO_VERSION / 100 % 1000, ASIO_VERSION % 100),
      .make = [](const PoolOptions& options) -> std::unique_ptr<Pool> { return std::make_unique<AsioPool>(options); },
      .settings =
          [](const PoolOptions& options) {
            return fmt::format("thread_pool({}), post, workers pinned", options.cpus.size());
          },
  };
}

}  // namespace bench
