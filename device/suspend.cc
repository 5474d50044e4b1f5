// SPDX-License-Identifier: Apache-2.0
// Putting a bound device to sleep and waking it up, in bounded time. As in a removal the steps run in a job; the job owns the
// instance meanwhile, so that a driver that hangs takes nobody's instance away under them.
#include <fmt/format.h>

#include <chrono>
#include <string_view>
#include <utility>

#include "device/context_impl.h"
#include "device/teardown.h"
#include "device/withdrawal.h"

namespace upci::inline UPCI_VARIANT::device {
namespace {

using namespace std::chrono_literals;

// Drivers end their own waits at the deadline and then say why; only who has not by then is given up.
constexpr platform::Nanoseconds kGrace = 500ms;
// For a driver that came back only after it had been given up.
constexpr platform::Nanoseconds kLateRemoval = 1s;

/// No interrupt, no work, no access to memory.
void put_to_rest(Device& device, Bound& bound) {
  device.shutdown_irqs();
  disable_works(device.engine(), bound);
  // The driver has reset it: this is one more lock on the door.
  if (auto off = device.control().set_bus_master(false); !off) {
    log::warn("{}: bus mastering stays on while it sleeps: {}", device.name(), off.error().message());
  }
}

class SuspendJob final : public Job {
 public:
  SuspendJob(Engine& engine, int cpu, std::shared_ptr<Bell> bell, std::shared_ptr<Device> device,
             std::unique_ptr<Bound> bound, bool freeze, Deadline deadline) noexcept
      : Job(engine, cpu, std::move(bell)),
        device_(std::move(device)),
        bound_(std::move(bound)),
        freeze_(freeze),
        deadline_(deadline) {}
  // The caller's, once the phase is kJudged.
  Result<void>& result() noexcept { return result_; }
  std::unique_ptr<Bound> take_bound() noexcept { return std::move(bound_); }

 private:
  void body() override {
    const DrivingScope driving(*device_->state());
    device_->state()->recorder().enter_step(freeze_ ? "freeze" : "restore");
    // As in a probe: accesses are recorded, and end when the device is given up.
    device_->probe_finished(false);
    result_ = freeze_ ? freeze() : restore();
    device_->probe_finished(true);
    if (claim()) return;
    static_cast<void>(dismantle(*device_, std::move(bound_), Deadline::after(kLateRemoval)));
  }

  Result<void> freeze() {
    UPCI_TRY(bound_->freeze(deadline_));
    put_to_rest(*device_, *bound_);
    return {};
  }

  Result<void> restore() {
    enable_works(device_->engine(), *bound_);
    auto done = bound_->restore(deadline_);
    if (!done) put_to_rest(*device_, *bound_);
    return done;
  }

  const std::shared_ptr<Device> device_;
  std::unique_ptr<Bound> bound_;  // the runner's until kJudged, then the caller's
  const bool freeze_;
  const Deadline deadline_;
  Result<void> result_;  // the same
};

}  // namespace

Result<void> Context::Impl::suspend(const std::shared_ptr<Device>& device, bool freeze, Deadline deadline) {
  const std::string_view what = freeze ? "freeze" : "restore";
  if (!deadline.is_bounded()) {
    return fail(Errc::kInvalid, fmt::format("{}: {} needs a deadline", device->name(), what), "use Deadline::after");
  }
  std::unique_ptr<Bound> bound;
  {
    const std::lock_guard lock(mutex);
    const auto it = entries.find(device.get());
    if (it == entries.end() || it->second.state != Entry::State::kBound) {
      return fail(Errc::kState, device->name() + ": the device is not bound, or another call has it at this moment");
    }
    if (it->second.frozen == freeze) {
      return fail(Errc::kState,
                  fmt::format("{}: the device is {}", device->name(), freeze ? "frozen already" : "awake"));
    }
    it->second.state = Entry::State::kSuspending;
    bound = std::move(it->second.bound);
  }
  const int cpu = placement.take(device->node()).cpu;
  const auto job = std::make_shared<SuspendJob>(*engine, cpu, bell, device, std::move(bound), freeze, deadline);
  const Ended ended = run_bounded(job, device, deadline.when() + kGrace);
  placement.give_back(cpu);
  if (ended == Ended::kHung) {
    std::shared_ptr<WithdrawalWatch> watch;
    {
      const std::lock_guard lock(mutex);
      Entry& entry = entries.at(device.get());
      entry.state = Entry::State::kRemoving;
      entry.instance = nullptr;
      watch = std::move(entry.watch);
    }
    watch->stop();
    untake(*device);
    bell->ring();
    return fail(Errc::kTimeout,
                fmt::format("{}: the driver hangs in its {}; the device was given up, and a worker written off",
                            device->name(), what),
                "a callback of the application, or the driver, waits for something without a deadline");
  }
  Result<void> done = std::move(job->result());
  {
    const std::lock_guard lock(mutex);
    Entry& entry = entries.at(device.get());
    entry.bound = job->take_bound();
    entry.state = Entry::State::kBound;
    if (done) entry.frozen = freeze;
  }
  bell->ring();  // for a removal that waits
  if (done && ended == Ended::kLate) {
    done = fail(Errc::kTimeout,
                fmt::format("{}: its {} took longer than its deadline; the device was given up", device->name(), what));
  }
  return done;
}

}  // namespace upci::inline UPCI_VARIANT::device
