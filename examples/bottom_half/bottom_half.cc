// SPDX-License-Identifier: Apache-2.0
// Top half and bottom half. An eventfd stands for a device's interrupt: its event source runs at once on a CPU of ours, takes
// the event off and queues a work; the work does the rest on the same CPU, and may sleep.
//
//   build/bin/bottom_half
#include <cstdio>

#include "base/event_fd.h"
#include "base/wait.h"
#include "workqueue/engine.h"

using namespace upci;

class Device {
 public:
  Device(Engine& engine, EventFd fd) : engine_(engine), fd_(std::move(fd)) {}
  // The order of an end: first what queues, then what is queued.
  ~Device() {
    engine_.remove_event_source(source_);
    engine_.cancel_work_sync(bottom_);
  }
  Result<void> start(int cpu) { return engine_.add_event_source(source_, fd_.fd(), cpu); }
  void raise() { fd_.signal(); }
  bool wait_for(std::uint64_t events, Deadline deadline) {
    while (seen_.load() < events && !deadline.expired()) sleep_for(std::chrono::milliseconds(1));
    return seen_.load() >= events;
  }
  std::uint64_t seen() const { return seen_.load(); }

 private:
  // Runs in the worker of the CPU, before everything else; it must not sleep. Events that come while the bottom half is
  // pending are counted, and handled by it in one go: queueing a pending work again does nothing.
  static void top_half(void* self) {
    auto& device = *static_cast<Device*>(self);
    device.pending_.fetch_add(device.fd_.drain());
    device.engine_.queue_work_on(device.engine_.current_worker_cpu(), device.engine_.system_wq(), device.bottom_);
  }
  void bottom_half(Work&) {
    const std::uint64_t events = pending_.exchange(0);
    sleep_for(std::chrono::microseconds(200));  // it may: the next item of this CPU starts meanwhile
    if (events != 0) std::printf("bottom half on CPU %d: %d event(s)\n", engine_.current_worker_cpu(), int(events));
    seen_.fetch_add(events);
  }

  Engine& engine_;
  EventFd fd_;
  EventSource source_{&Device::top_half, this};
  platform::Atomic<std::uint64_t> pending_{0};
  platform::Atomic<std::uint64_t> seen_{0};
  Work bottom_{this, &Device::bottom_half};
};

int main() {
  auto engine = Engine::create();
  auto fd = EventFd::create();
  if (!engine || !fd) return 1;
  Device device(**engine, std::move(*fd));
  if (auto started = device.start((*engine)->topology().cpus().front().id); !started) {
    std::fprintf(stderr, "%s\n", started.error().message().c_str());
    return 1;
  }
  for (int i = 0; i < 10; i++) {
    device.raise();
    if (i % 3 == 0) sleep_for(std::chrono::milliseconds(1));
  }
  if (!device.wait_for(10, Deadline::after(std::chrono::seconds(10)))) return 1;
  std::printf("10 events, %d seen by the bottom half\n", int(device.seen()));
  return 0;
}
