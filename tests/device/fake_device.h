// SPDX-License-Identifier: Apache-2.0
// A device and a driver that do what a test tells them, and note what is done to them.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/event_fd.h"
#include "base/wait.h"
#include "device/context.h"
#include "device/irq.h"
#include "device/quarantine.h"
#include "device/wait.h"
#include "workqueue/engine.h"

#if defined(UPCI_SIM)
#include "tests/sim.h"
#endif

namespace upci::inline UPCI_VARIANT::test {

using namespace std::chrono_literals;
using device::Bound;
using device::Context;
using device::Device;
using device::Report;

/// What happened, in order. Thread-safe.
class EventLog {
 public:
  void add(std::string what) {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(what));
  }
  std::vector<std::string> all() const {
    const std::lock_guard lock(mutex_);
    return events_;
  }
  bool has(const std::string& what) const {
    const auto events = all();
    return std::find(events.begin(), events.end(), what) != events.end();
  }

 private:
  mutable platform::Mutex mutex_;
  std::vector<std::string> events_;  // mutex_
};

/// A gate that holds threads without telling the engine, as a hung access or a driver's own loop would.
class HiddenGate {
 public:
  [[gnu::noinline]] void pass() noexcept {  // a backtrace is to name it
    while (closed_.load(std::memory_order_acquire) == 1) platform::wait_word(closed_, 1);
  }
  void open() noexcept {
    closed_.store(0, std::memory_order_release);
    platform::wake_word(&closed_, 1000);
  }

 private:
  platform::Atomic<std::uint32_t> closed_{1};
};

class FakeControl final : public device::DeviceControl {
 public:
  explicit FakeControl(EventLog& log) : log_(log) {}
  bool present() override { return is_present.load(); }
  Result<void> set_bus_master(bool on) override {
    log_.add(on ? "bus master on" : "bus master off");
    return {};
  }
  Result<void> reset(Deadline) override {
    log_.add("reset");
    return {};
  }
  bool proven_quiet() override { return can_be_quiet.load(); }
  void abandon() noexcept override {
    log_.add("abandon");
    if (on_abandon) on_abandon();
  }

  int notice_fd() const noexcept override { return notice_event ? notice_event->fd() : -1; }
  Notice notice() noexcept override { return the_notice.load(); }
  void give_back() noexcept override { log_.add("given back"); }
  /// The lender wants the device back.
  void withdraw(Notice notice = Notice::kWithdrawn) {
    the_notice.store(notice);
    is_present.store(false);
    if (notice_event) notice_event->signal();
  }

  platform::Atomic<Notice> the_notice{Notice::kNone};
  std::optional<EventFd> notice_event;  // set before the device is used
  platform::Atomic<bool> is_present{true};
  platform::Atomic<bool> can_be_quiet{true};
  std::function<void()> on_abandon;  // set before the device is used

 private:
  EventLog& log_;
};

class FakeDma final : public device::DmaSpace {
 public:
  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override {
    last_node.store(request.node);
    return std::unique_ptr<device::DmaMemory>(new Memory(live_, request.len));
  }
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte>, const device::DmaRequest&) override {
    return fail(Errc::kUnavailable, "this memory cannot be registered");
  }
  int live() const { return live_->load(); }
  platform::Atomic<int> last_node{-2};

 private:
  using Count = std::shared_ptr<platform::Atomic<int>>;
  class Memory final : public device::DmaMemory {
   public:
    Memory(Count live, std::size_t size) : DmaMemory(new std::byte[size], 0x1000, size), live_(std::move(live)) {
      live_->fetch_add(1);
    }
    ~Memory() override {
      delete[] va();
      live_->fetch_sub(1);
    }

   private:
    Count live_;
  };
  Count live_ = std::make_shared<platform::Atomic<int>>(0);
};

class FakeIrqs final : public device::IrqSource {
 public:
  explicit FakeIrqs(EventLog& log) : log_(log) {}
  unsigned count() const override { return 4; }
  Result<void> enable(std::span<const int> eventfds) override {
    const std::lock_guard lock(mutex_);
    eventfds_.assign(eventfds.begin(), eventfds.end());
    return {};
  }
  Result<void> disable() override {
    const std::lock_guard lock(mutex_);
    log_.add("interrupts off");
    eventfds_.clear();
    return {};
  }
  Result<void> set_mask(unsigned, bool) override { return {}; }
  Result<void> set_affinity(unsigned, int) override {
    if (follows_affinity) return {};
    return fail(Errc::kUnavailable, "no say");
  }
  /// The device raises an interrupt; false when none is routed.
  bool raise(unsigned vector) {
    const std::lock_guard lock(mutex_);
    if (vector >= eventfds_.size()) return false;
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(eventfds_[vector], &one, sizeof one), static_cast<ssize_t>(sizeof one));
    platform::fd_signalled();
    return true;
  }
  bool follows_affinity = false;

 private:
  EventLog& log_;
  platform::Mutex mutex_;
  std::vector<int> eventfds_;  // mutex_
};

class FakeDevice final : public Device {
 public:
  using Probe = std::function<Result<std::unique_ptr<Bound>>(FakeDevice&, Deadline)>;

  static std::shared_ptr<FakeDevice> make(std::string name, int node, Probe probe) {
    auto recorder = FlightRecorder::create();
    if (!recorder) std::abort();
    auto state = std::make_shared<device::DeviceState>(std::move(*recorder));
    return std::shared_ptr<FakeDevice>(new FakeDevice(std::move(name), node, std::move(state), std::move(probe)));
  }
  ~FakeDevice() override { log->add("device closed"); }

  int node() const override { return node_; }
  FakeControl& control() override { return control_; }
  FakeDma& dma() override { return dma_; }
  FakeIrqs& irqs() override { return irqs_; }
  void probe_finished(bool bound) noexcept override { log->add(bound ? "bound" : "unbinding"); }

  /// One recorded read of the only register.
  std::uint64_t read_status() {
    if (state()->abandoned()) return 0xff;
    if (state()->records()) state()->recorder().begin_access("device_status", false);
    const std::uint64_t value = on_read ? on_read() : status.load();
    if (state()->abandoned()) return 0xff;
    if (state()->records()) state()->recorder().end_access(value);
    return value;
  }
  /// Waits until the status reads 0.
  Result<std::uint64_t> wait_for_reset(Deadline deadline) {
    return wait_for_register(
        *state(), control_,
        {.step = "reset",
         .reg = "device_status",
         .deadline = deadline,
         .read = [this] { return read_status(); },
         .judge = [](std::uint64_t value) { return value == 0 ? device::WaitStep::kDone : device::WaitStep::kAgain; },
         .stuck_advice = "power it off and on"});
  }

  const std::shared_ptr<EventLog> log = std::make_shared<EventLog>();  // outlives the device where a test keeps it
  platform::Atomic<std::uint64_t> status{0};
  std::function<std::uint64_t()> on_read;  // set before the device is used
  const Probe probe;

 private:
  FakeDevice(std::string name, int node, std::shared_ptr<device::DeviceState> state, Probe the_probe)
      : Device(std::move(name), {}, std::move(state)), probe(std::move(the_probe)), node_(node) {}
  FakeControl control_{*log};
  FakeDma dma_;
  FakeIrqs irqs_{*log};
  const int node_;
};

/// An instance that notes its end; `memory` is freed with it.
class FakeBound final : public Bound {
 public:
  explicit FakeBound(FakeDevice& device) : log_(device.log), engine_(device.engine()) {}
  ~FakeBound() override {
    log_->add("destructor");
    destroyed_on.store(platform::this_thread::id());
  }
  Result<void> quiesce(Deadline) override {
    log_->add("quiesce");
    return {};
  }
  static inline platform::Atomic<int> destroyed_on{0};
  device::DmaBuffer memory;

 private:
  const std::shared_ptr<EventLog> log_;
  Engine& engine_;
};

class FakeDriver final : public device::Driver {
 public:
  std::string_view name() const override { return "fake"; }
  bool match(const Device& device) const override {
    const auto* fake = dynamic_cast<const FakeDevice*>(&device);
    return fake != nullptr && fake->probe != nullptr;
  }
  Result<std::unique_ptr<Bound>> probe(Device& device, Deadline deadline) override {
    auto& fake = dynamic_cast<FakeDevice&>(device);
    return fake.probe(fake, deadline);
  }
};

/// A probe that binds at once.
inline Result<std::unique_ptr<Bound>> binds(FakeDevice& device, Deadline) {
  return std::make_unique<FakeBound>(device);
}
/// A probe that resets the device first.
inline Result<std::unique_ptr<Bound>> resets(FakeDevice& device, Deadline deadline) {
  UPCI_TRY(device.wait_for_reset(deadline));
  return std::make_unique<FakeBound>(device);
}

/// Two nodes with two CPUs each, whatever the machine has.
inline const Topology& small_topology() {
  static const Topology topology = *Topology::synthetic("numa:2 core:2");
  return topology;
}

inline std::unique_ptr<Context> make_context(Topology topology = small_topology()) {
  auto context = Context::create({.engine = {.topology = std::move(topology)}});
  if (!context) std::abort();
  (*context)->add_driver(std::make_unique<FakeDriver>());
  return std::move(*context);
}

/// A device that belongs to the context.
inline std::shared_ptr<FakeDevice> make_device(Context& context, std::string name, FakeDevice::Probe probe,
                                               int node = 0) {
  auto device = FakeDevice::make(std::move(name), node, std::move(probe));
  EXPECT_TRUE(context.add_device(device).has_value());
  return device;
}

/// Waits until something is so; false when it is not after a time that no machine is too slow for.
template <class F>
bool eventually(F condition) {
  const Deadline patience = Deadline::after(60s);
  while (!condition()) {
    if (patience.expired()) return false;
    sleep_for(1ms);
  }
  return true;
}

/// Runs the body: in simulation under several seeds, on real threads once.
template <class F>
void on_platform(F body, unsigned seeds = 100) {
#if defined(UPCI_SIM)
  for_each_seed(seeds, body);
#else
  (void)seeds;
  body();
#endif
}

/// An upper bound on time: exact on the simulated clock, generous in real time.
inline platform::Nanoseconds at_most(platform::Nanoseconds exact) {
#if defined(UPCI_SIM)
  return exact;
#else
  return exact + 10s;
#endif
}

}  // namespace upci::inline UPCI_VARIANT::test
