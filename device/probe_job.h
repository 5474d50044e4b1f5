// SPDX-License-Identifier: Apache-2.0
// Private. The probe of one device, as a worker runs it.
#pragma once

#include <memory>
#include <optional>

#include "device/device.h"
#include "device/job.h"

namespace upci::inline UPCI_VARIANT::device {

/// While a probe runs its device counts as quarantined: what the driver frees on its way out of a failed probe is kept until
/// the device has been silenced, and freed then. A probe that succeeds ends the quarantine when it is published.
class ProbeJob final : public Job {
 public:
  struct Outcome {
    std::unique_ptr<Bound> bound;     // of a probe that succeeded
    std::optional<Error> error;       // of one that did not
    platform::Nanoseconds elapsed{};  // from the start of the probe to its verdict
    DeviceState::LongestWait longest_wait;
    int moved_to = -1;  // the OS CPU where the worker ended up, when the kernel moved it
  };

  ProbeJob(Engine& engine, int cpu, std::shared_ptr<Bell> bell, std::shared_ptr<Device> device,
           std::shared_ptr<Driver> driver, platform::Nanoseconds timeout) noexcept
      : Job(engine, cpu, std::move(bell)), device_(std::move(device)), driver_(std::move(driver)), timeout_(timeout) {}

  /// The caller's, once the phase is kJudged.
  Outcome& outcome() noexcept { return outcome_; }
  /// The caller's, once a probe that failed has returned: whether its device could be silenced.
  const Result<void>& silenced() const noexcept { return silenced_; }
  /// The caller's, once the phase is kJudged: an earlier probe left memory that its device was never proven not to write to.
  bool was_quarantined() const noexcept { return was_quarantined_; }

  /// True when the calling thread is in a probe of this engine.
  static bool nested_in(const Engine& engine) noexcept;

 private:
  void body() override;
  void discard_late();

  const std::shared_ptr<Device> device_;
  const std::shared_ptr<Driver> driver_;
  const platform::Nanoseconds timeout_;
  Outcome outcome_;               // the worker's until kJudged, then the caller's
  Result<void> silenced_;         // the worker's until returned(), then the caller's
  bool was_quarantined_ = false;  // the worker's until kJudged, then the caller's
};

/// Silences a device whose probe was given up, on a worker of its own: the backend may need its time.
class SilenceJob final : public Job {
 public:
  SilenceJob(Engine& engine, int cpu, std::shared_ptr<Bell> bell, std::shared_ptr<Device> device) noexcept
      : Job(engine, cpu, std::move(bell)), device_(std::move(device)) {}
  /// The caller's, once the phase is kJudged.
  const Result<void>& silenced() const noexcept { return silenced_; }

 private:
  void body() override;
  const std::shared_ptr<Device> device_;
  Result<void> silenced_;  // the worker's until kJudged, then the caller's
};

}  // namespace upci::inline UPCI_VARIANT::device
