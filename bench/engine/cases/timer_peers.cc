// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/cases/timer_peers.h"

#include <memory>
#include <thread>

#include "bench/engine/affinity.h"
#include "bench/engine/clock.h"
#ifdef BENCH_HAVE_ASIO
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#endif
#ifdef BENCH_HAVE_UV
#include <uv.h>
#endif

namespace bench {

namespace {

#ifdef BENCH_HAVE_ASIO
/// An io_context that one thread on the worker's CPU runs.
class AsioThread {
 public:
  AsioThread()
      : guard_(asio::make_work_guard(context)), thread_([this] {
          pin(worker_cpu());
          context.run();
        }) {}
  ~AsioThread() {
    guard_.reset();
    context.stop();
    thread_.join();
  }
  AsioThread(const AsioThread&) = delete;
  AsioThread& operator=(const AsioThread&) = delete;
  asio::io_context context{1};

 private:
  asio::executor_work_guard<asio::io_context::executor_type> guard_;
  std::thread thread_;
};

Sample asio_errors() {
  AsioThread thread;
  TimerErrors errors;
  const auto delays = TimerErrors::delays();
  std::vector<std::unique_ptr<asio::steady_timer>> timers;
  const Meter meter;
  for (std::size_t i = 0; i < delays.size(); i++) {
    errors.expiries[i].due = TimerErrors::Clock::now() + delays[i];
    timers.push_back(std::make_unique<asio::steady_timer>(thread.context, errors.expiries[i].due));
    timers.back()->async_wait([&errors, i](const asio::error_code&) { errors.expired(i, TimerErrors::Clock::now()); });
  }
  errors.gate.wait();
  return errors.sample(meter.read());
}

Sample asio_armed(std::size_t armed) {
  AsioThread thread;
  FarDelays delays;
  std::vector<std::unique_ptr<asio::steady_timer>> timers;
  for (std::size_t i = 0; i < armed; i++) {
    timers.push_back(std::make_unique<asio::steady_timer>(thread.context, delays.next()));
    timers.back()->async_wait([](const asio::error_code&) {});
  }
  asio::steady_timer own(thread.context);
  const Meter meter;
  const std::uint64_t start = ticks();
  for (int i = 0; i < kTimerOperations; i++) {
    own.expires_after(delays.next());
    own.async_wait([](const asio::error_code&) {});
    own.cancel();
  }
  const double time = nanoseconds(start, ticks());
  Sample sample;
  sample.usage = meter.read();
  sample.value = time / kTimerOperations;
  thread.context.stop();
  return sample;
}
#endif

#ifdef BENCH_HAVE_UV
struct UvTimer {
  uv_timer_t timer;
  TimerErrors* errors;
  std::size_t number;
};

Sample uv_errors() {
  TimerErrors errors;
  const auto delays = TimerErrors::delays();
  const Meter meter;
  std::thread thread([&] {
    pin(worker_cpu());
    uv_loop_t loop;
    uv_loop_init(&loop);
    std::vector<UvTimer> timers(delays.size());
    for (std::size_t i = 0; i < delays.size(); i++) {
      timers[i].errors = &errors;
      timers[i].number = i;
      uv_timer_init(&loop, &timers[i].timer);
      timers[i].timer.data = &timers[i];
      uv_update_time(&loop);
      errors.expiries[i].due = TimerErrors::Clock::now() + delays[i];
      const auto milliseconds = static_cast<std::uint64_t>(delays[i].count() + 999'999) / 1'000'000;
      uv_timer_start(
          &timers[i].timer,
          [](uv_timer_t* timer) {
            const auto* self = static_cast<const UvTimer*>(timer->data);
            self->errors->expired(self->number, TimerErrors::Clock::now());
          },
          milliseconds, 0);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    for (UvTimer& timer : timers) uv_close(reinterpret_cast<uv_handle_t*>(&timer.timer), nullptr);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
  });
  thread.join();
  return errors.sample(meter.read());
}

/// A loop's timers belong to its thread: armed and cancelled there.
Sample uv_armed(std::size_t armed) {
  uv_loop_t loop;
  uv_loop_init(&loop);
  FarDelays delays;
  const auto milliseconds = [&delays] { return static_cast<std::uint64_t>(delays.next().count() / 1'000'000); };
  std::vector<uv_timer_t> timers(armed);
  for (uv_timer_t& timer : timers) {
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, [](uv_timer_t*) {}, milliseconds(), 0);
  }
  uv_timer_t own;
  uv_timer_init(&loop, &own);
  const Meter meter;
  const std::uint64_t start = ticks();
  for (int i = 0; i < kTimerOperations; i++) {
    uv_timer_start(&own, [](uv_timer_t*) {}, milliseconds(), 0);
    uv_timer_stop(&own);
  }
  const double time = nanoseconds(start, ticks());
  Sample sample;
  sample.usage = meter.read();
  sample.value = time / kTimerOperations;
  for (uv_timer_t& timer : timers) uv_close(reinterpret_cast<uv_handle_t*>(&timer), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&own), nullptr);
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return sample;
}
#endif

}  // namespace

std::vector<Contestant> timer_error_peers() {
  std::vector<Contestant> peers;
#ifdef BENCH_HAVE_ASIO
  peers.push_back({.kind = Contestant::Kind::kPeer,
                   .name = "asio",
                   .settings = "steady_timer, an io_context run by one pinned thread",
                   .run = asio_errors});
#endif
#ifdef BENCH_HAVE_UV
  peers.push_back({.kind = Contestant::Kind::kPeer,
                   .name = "libuv",
                   .settings = "uv_timer, armed by its loop's thread, which is pinned",
                   .run = uv_errors});
#endif
  return peers;
}

std::vector<Contestant> armed_timer_peers(std::size_t armed) {
  std::vector<Contestant> peers;
  (void)armed;
#ifdef BENCH_HAVE_ASIO
  peers.push_back({.kind = Contestant::Kind::kPeer,
                   .name = "asio",
                   .settings = "steady_timer: expires_after, async_wait, cancel; 1,000,000 armed",
                   .run = [armed] { return asio_armed(armed); }});
#endif
#ifdef BENCH_HAVE_UV
  peers.push_back({.kind = Contestant::Kind::kPeer,
                   .name = "libuv",
                   .settings = "uv_timer_start, uv_timer_stop by the loop's own thread, no lock; 1,000,000 armed",
                   .run = [armed] { return uv_armed(armed); }});
#endif
  return peers;
}

}  // namespace bench
