// SPDX-License-Identifier: Apache-2.0
// An interrupt as a driver sees it: an eventfd is written on one CPU, and a bottom half starts on another.
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "bench/engine/clock.h"
#include "bench/engine/peers/ours.h"
#include "bench/engine/statistics.h"
#ifdef BENCH_HAVE_ASIO
#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#endif
#ifdef BENCH_HAVE_UV
#include <uv.h>
#endif

namespace bench {

namespace {

constexpr int kInterrupts = 300;
constexpr double kGap = 300e3;  // ns

/// The eventfd, and when its bottom half ran.
struct Line {
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  std::atomic<std::uint64_t> started{0};
  std::atomic<bool> stop{false};
  Line() = default;
  ~Line() { ::close(event); }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  bool drain() const {
    std::uint64_t count = 0;
    return ::read(event, &count, sizeof count) == sizeof count;
  }
  void ring() const {
    const std::uint64_t one = 1;
    if (::write(event, &one, sizeof one) < 0) refused("write of an eventfd failed");
  }
  void bottom_half() { started.store(ticks(), std::memory_order_release); }

  /// Rings it again and again from the submitter's CPU, which stays awake.
  Sample measure() {
    const PinScope pinned(submitter_cpu());
    std::vector<double> times;
    for (int i = 0; i < 10; i++) (void)one();
    const Meter meter;
    for (int i = 0; i < kInterrupts; i++) times.push_back(one());
    Sample sample;
    sample.usage = meter.read();
    sample.value = median(times);
    sample.more["p99 ns"] = percentile(times, 0.99);
    sample.more["wake-ups/interrupt"] = static_cast<double>(sample.usage.voluntary_switches) / kInterrupts;
    return sample;
  }

 private:
  double one() {
    started.store(0, std::memory_order_relaxed);
    spin_for(kGap);
    const std::uint64_t rung = ticks();
    ring();
    std::uint64_t at = 0;
    while ((at = started.load(std::memory_order_acquire)) == 0) relax();
    return nanoseconds(rung, at);
  }
};

struct Device {
  explicit Device(upci::Engine& engine_) : engine(engine_) {}
  static void top_half(void* context) {
    auto& self = *static_cast<Device*>(context);
    if (self.line.drain()) self.engine.queue_work(self.engine.system_wq(), self.work);
  }
  void bottom_half(upci::Work&) { line.bottom_half(); }
  upci::Engine& engine;
  Line line;
  upci::Work work{this, &Device::bottom_half};
  upci::EventSource source{&top_half, this};
};

Sample run_ours() {
  const auto engine = make_engine();
  Device device(*engine);
  if (const auto added = engine->add_event_source(device.source, device.line.event, worker_cpu()); !added) {
    refused(added.error().message().c_str());
  }
  Sample sample = device.line.measure();
  engine->remove_event_source(device.source);
  engine->cancel_work_sync(device.work);
  return sample;
}

Sample run_epoll() {
  Line line;
  std::thread thread([&line] {
    pin(worker_cpu());
    const int poll = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event wanted{.events = EPOLLIN | EPOLLET, .data = {.u64 = 1}};
    ::epoll_ctl(poll, EPOLL_CTL_ADD, line.event, &wanted);
    while (!line.stop.load()) {
      epoll_event event{};
      if (::epoll_wait(poll, &event, 1, -1) == 1 && line.drain()) line.bottom_half();
    }
    ::close(poll);
  });
  Sample sample = line.measure();
  line.stop.store(true);
  line.ring();
  thread.join();
  return sample;
}

#ifdef BENCH_HAVE_ASIO
struct AsioLine {
  explicit AsioLine(asio::io_context& context_) : context(context_), descriptor(context_, ::dup(line.event)) { wait(); }
  void wait() {
    descriptor.async_wait(asio::posix::stream_descriptor::wait_read, [this](const asio::error_code& error) {
      if (error || !line.drain()) return;
      asio::post(context, [this] { line.bottom_half(); });
      wait();
    });
  }
  Line line;
  asio::io_context& context;
  asio::posix::stream_descriptor descriptor;
};

Sample run_asio() {
  asio::io_context context(1);
  AsioLine one(context);
  std::thread thread([&context] {
    pin(worker_cpu());
    context.run();
  });
  Sample sample = one.line.measure();
  context.stop();
  thread.join();
  return sample;
}
#endif

#ifdef BENCH_HAVE_UV
Sample run_uv() {
  Line line;
  std::thread thread([&line] {
    pin(worker_cpu());
    uv_loop_t loop;
    uv_poll_t poll;
    uv_loop_init(&loop);
    uv_poll_init(&loop, &poll, line.event);
    poll.data = &line;
    uv_poll_start(&poll, UV_READABLE, [](uv_poll_t* handle, int, int) {
      auto& self = *static_cast<Line*>(handle->data);
      if (self.drain()) self.bottom_half();
      if (self.stop.load()) uv_close(reinterpret_cast<uv_handle_t*>(handle), nullptr);
    });
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
  });
  Sample sample = line.measure();
  line.stop.store(true);
  line.ring();
  thread.join();
  return sample;
}
#endif

}  // namespace

std::vector<Case> interrupt_cases() {
  if (machine_cpus().size() < 2) return {};
  Case one;
  one.name = "interrupt";
  one.title = "an interrupt's eventfd -> its bottom half runs";
  one.unit = "ns";
  one.method = fmt::format("CPU {} writes the eventfd every {} us; it is served on CPU {}; median of {}.",
                           submitter_cpu(), kGap / 1e3, worker_cpu(), kInterrupts);
  one.targets = {{.against = Target::Against::kFloor, .ratio = 1.2},
                 {.against = Target::Against::kOwnFigure, .of = "wake-ups/interrupt", .ratio = 1.05}};
  one.contestants.push_back({.kind = Contestant::Kind::kOurs,
                             .name = "upci",
                             .settings = "add_event_source; the top half drains and queues the bottom half",
                             .run = run_ours});
#ifdef BENCH_HAVE_ASIO
  one.contestants.push_back({.kind = Contestant::Kind::kPeer,
                             .name = "asio",
                             .settings = "stream_descriptor::async_wait; the handler drains and posts the bottom half",
                             .run = run_asio});
#endif
#ifdef BENCH_HAVE_UV
  one.contestants.push_back({.kind = Contestant::Kind::kPeer,
                             .name = "libuv",
                             .settings = "uv_poll; its callback drains and is the bottom half",
                             .run = run_uv});
#endif
  one.contestants.push_back({.kind = Contestant::Kind::kFloor,
                             .name = "raw epoll",
                             .settings = "epoll_wait, read, call; edge-triggered",
                             .run = run_epoll});
  one.remark = "Wake-ups are the voluntary context switches of the process; whoever writes never sleeps.";
  return {std::move(one)};
}

}  // namespace bench
