// SPDX-License-Identifier: Apache-2.0
// Private. One call of Context::probe: all its devices at once, each judged by its own deadline.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/stack.h"
#include "device/context_impl.h"
#include "device/probe_job.h"
#include "device/report.h"

namespace upci::inline UPCI_VARIANT::device {

/// Used by one thread, once.
class ProbeBatch {
 public:
  ProbeBatch(Context::Impl& context, platform::Nanoseconds timeout, const StackTrace& requested_by);
  std::vector<Report> run(std::span<const std::shared_ptr<Device>> devices);

 private:
  struct Attempt {
    std::shared_ptr<Device> device;
    Report report;
    int placed_on = -1;                    // to be given back to the placement
    std::shared_ptr<ProbeJob> job;         // none when nothing can be probed
    std::shared_ptr<SilenceJob> silencer;  // of a probe that was given up
    platform::TimePoint silence_by = platform::kNever;
    bool helped = false;   // room was made for it on its CPU
    bool overdue = false;  // given up, not reported yet
    bool done = false;
  };

  void begin(Attempt& attempt);
  /// One look at an attempt; returns when to look again at the latest.
  platform::TimePoint advance(Attempt& attempt);
  platform::TimePoint advance_queued(Attempt& attempt);
  platform::TimePoint advance_running(Attempt& attempt);
  platform::TimePoint advance_judged(Attempt& attempt);
  platform::TimePoint advance_given_up(Attempt& attempt);
  bool access_hangs(const Attempt& attempt) const;
  void make_room_on(int cpu);

  void publish(Attempt& attempt);
  void report_verdict(Attempt& attempt);
  void report_given_up(Attempt& attempt);
  void report_error(Attempt& attempt, Error error);
  std::string note_evidence(Attempt& attempt);
  void note_unquiet(Attempt& attempt, const std::string& why);
  void end(Attempt& attempt, bool bound);

  Context::Impl& context_;
  const platform::Nanoseconds timeout_;
  const platform::Nanoseconds grace_;  // after its deadline a worker may come back with a verdict of its own
  const StackTrace requested_by_;
  std::vector<Attempt> attempts_;
  platform::TimePoint closing_since_ = platform::kNever;
};

}  // namespace upci::inline UPCI_VARIANT::device
