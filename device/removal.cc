// SPDX-License-Identifier: Apache-2.0
// Taking a driver off its device, in bounded time: the steps run in a job, and the caller takes it back when it is late.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "device/context_impl.h"
#include "device/teardown.h"
#include "device/withdrawal.h"

namespace upci::inline UPCI_VARIANT::device {
namespace {

using namespace std::chrono_literals;

class RemovalJob final : public Job {
 public:
  RemovalJob(Engine& engine, int cpu, std::shared_ptr<Bell> bell, std::shared_ptr<Device> device,
             std::unique_ptr<Bound> bound, Deadline deadline) noexcept
      : Job(engine, cpu, std::move(bell)), device_(std::move(device)), bound_(std::move(bound)), deadline_(deadline) {}
  /// The caller's, once the phase is kJudged.
  Result<void>& result() noexcept { return result_; }

 private:
  void body() override {
    const DrivingScope driving(*device_->state());
    device_->state()->recorder().enter_step("remove");
    result_ = dismantle(*device_, std::move(bound_), deadline_);
    claim();
  }

  const std::shared_ptr<Device> device_;
  std::unique_ptr<Bound> bound_;  // the runner's
  const Deadline deadline_;
  Result<void> result_;  // the runner's until kJudged, then the caller's
};

}  // namespace

Context::Impl::Ended Context::Impl::run_bounded(const std::shared_ptr<Job>& job, const std::shared_ptr<Device>& device,
                                                platform::TimePoint limit) {
  if (!job->queue()) job->run_here();
  // Beyond it: silencing has a time of its own, and what waited for the device ends once it is abandoned.
  const platform::Nanoseconds grace = kSilenceTimeout + 500ms;
  bool abandoned = false;
  for (;;) {
    const std::uint32_t seen = bell->rings();
    if (job->phase() == Job::Phase::kJudged) return abandoned ? Ended::kLate : Ended::kInTime;
    const platform::TimePoint now = platform::Clock::now();
    if (!abandoned && now >= limit) {
      device->abandon();
      abandoned = true;
      limit = now + grace;
      // Its CPU does not come to it: the works of the driver must be taken back all the same, so we do it ourselves.
      if (job->cancel()) job->run_here();
      continue;
    }
    if (now >= limit && job->give_up()) {
      job->write_off_worker();
      add_stray(job);
      device->state()->set_quarantined(true);
      return Ended::kHung;
    }
    bell->wait(seen, limit);
  }
}

Result<void> Context::Impl::remove(const std::shared_ptr<Device>& device, Deadline deadline) {
  std::unique_ptr<Bound> bound;
  std::shared_ptr<WithdrawalWatch> watch;
  for (;;) {
    const std::uint32_t seen = bell->rings();
    {
      const std::lock_guard lock(mutex);
      const auto it = entries.find(device.get());
      const bool suspending = it != entries.end() && it->second.state == Entry::State::kSuspending;
      if (!suspending) {
        if (it == entries.end() || it->second.state != Entry::State::kBound) {
          return fail(Errc::kState, device->name() + ": the device is not bound");
        }
        it->second.state = Entry::State::kRemoving;
        it->second.instance = nullptr;
        bound = std::move(it->second.bound);
        watch = std::move(it->second.watch);
        break;
      }
    }
    // A freeze or restore ends by itself, within its own deadline; ours may be sooner.
    if (deadline.expired()) {
      return fail(Errc::kTimeout, device->name() + ": the device is being frozen or restored, and that has not ended",
                  "try again with more time");
    }
    bell->wait(seen, deadline.when());
  }
  watch->stop();  // it tells the instance, which goes now
  const int cpu = placement.take(device->node()).cpu;
  const auto job = std::make_shared<RemovalJob>(*engine, cpu, bell, device, std::move(bound), deadline);
  Result<void> done;
  switch (run_bounded(job, device, deadline.when())) {
    case Ended::kInTime: done = std::move(job->result()); break;
    case Ended::kLate:
      done = std::move(job->result());
      if (done) {
        done = fail(Errc::kTimeout,
                    device->name() + ": removing the driver took longer than its deadline; the device was given up");
      }
      break;
    case Ended::kHung:
      done = fail(
          Errc::kTimeout,
          device->name() + ": the driver hangs while it is removed; the device was given up, and a worker written off",
          "a work or the destructor of the driver waits for something without a deadline");
      break;
  }
  if (device->control().notice() != DeviceControl::Notice::kNone) device->control().give_back();
  placement.give_back(cpu);
  untake(*device);
  return done;
}

}  // namespace upci::inline UPCI_VARIANT::device
