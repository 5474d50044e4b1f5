// SPDX-License-Identifier: Apache-2.0
#include "device/probe_job.h"

#include <utility>

#include "base/log.h"
#include "base/stack.h"
#include "device/teardown.h"

namespace upci::inline UPCI_VARIANT::device {
namespace {

/// How long a driver's instance that came too late gets to quiesce a device that answers nothing any more.
constexpr platform::Nanoseconds kLateQuiesceTimeout = std::chrono::milliseconds(100);

struct ProbingEngine;  // the thread's slot: the engine in one of whose probes it is

class ProbingScope {
 public:
  explicit ProbingScope(Engine& engine) noexcept : outer_(platform::thread_slot<ProbingEngine>()) {
    platform::thread_slot<ProbingEngine>() = &engine;
  }
  ~ProbingScope() { platform::thread_slot<ProbingEngine>() = outer_; }
  ProbingScope(const ProbingScope&) = delete;
  ProbingScope& operator=(const ProbingScope&) = delete;

 private:
  void* outer_;
};

}  // namespace

bool ProbeJob::nested_in(const Engine& engine) noexcept { return platform::thread_slot<ProbingEngine>() == &engine; }

void ProbeJob::body() {
  DeviceState& state = *device_->state();
  const DrivingScope driving(state);
  const ProbingScope probing(engine());
  was_quarantined_ = state.quarantined();
  state.set_quarantined(true);
  state.start_probe();
  state.recorder().enter_step("probe");

  const Deadline deadline = Deadline::after(timeout_);
  Result<std::unique_ptr<Bound>> result = driver_->probe(*device_, deadline);
  outcome_.elapsed = platform::Clock::now() - deadline.start();
  if (!result) {
    outcome_.error = std::move(result).error();
    // A wait keeps the stack of the function that waited. An error from elsewhere has at least the worker's.
    if (!state.abandoned() && state.recorder().stack().depth == 0) state.recorder().keep_stack(capture_stack());
  } else if (*result == nullptr) {
    outcome_.error = fail(Errc::kState, "the driver's probe returned neither an instance nor an error").error();
  } else {
    outcome_.bound = std::move(*result);
  }
  outcome_.longest_wait = state.longest_wait();
  if (const Topology::Cpu* cpu = engine().topology().find(this->cpu()); cpu != nullptr) {
    const int now_on = platform::this_thread::current_cpu();
    if (now_on != cpu->os_cpu) outcome_.moved_to = now_on;
  }

  // From a successful claim on the outcome is the caller's; only whether it failed is known here.
  const bool failed = outcome_.error.has_value();
  if (!claim()) {
    discard_late();
  } else if (failed) {
    silenced_ = silence(*device_, Deadline::after(kSilenceTimeout));
  }
}

void ProbeJob::discard_late() {
  log::info("{}: the probe that was given up has come back; its result is thrown away", device_->name());
  device_->state()->set_quarantined(true);
  const Result<void> done = outcome_.bound
                                ? dismantle(*device_, std::move(outcome_.bound), Deadline::after(kLateQuiesceTimeout))
                                : silence(*device_, Deadline::after(kSilenceTimeout));
  if (!done) log::debug("{}: after the late probe: {}", device_->name(), done.error().message());
}

void SilenceJob::body() {
  silenced_ = silence(*device_, Deadline::after(kSilenceTimeout));
  claim();
}

}  // namespace upci::inline UPCI_VARIANT::device
