// SPDX-License-Identifier: Apache-2.0
#include "device/probe_batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "device/quarantine.h"
#include "device/teardown.h"

namespace upci::inline UPCI_VARIANT::device {
namespace {

using namespace std::chrono_literals;

constexpr platform::Nanoseconds kStackTimeout = 200ms;
/// For a silenced device's job to come back, beside the time that the silencing itself may take.
constexpr platform::Nanoseconds kSilenceGrace = 500ms;
/// How long a probe waits for its CPU before the probes that hold it no longer count as running there.
constexpr platform::Nanoseconds kRoomAfter = 20ms;

double in_ms(platform::Nanoseconds span) { return std::chrono::duration<double, std::milli>(span).count(); }

platform::TimePoint after(platform::TimePoint start, platform::Nanoseconds span) {
  return span >= platform::kNever - start ? platform::kNever : start + span;
}

}  // namespace

ProbeBatch::ProbeBatch(Context::Impl& context, platform::Nanoseconds timeout, const StackTrace& requested_by)
    : context_(context),
      timeout_(std::max(timeout, platform::Nanoseconds::zero())),
      grace_(std::clamp<platform::Nanoseconds>(timeout_ / 10, 50ms, 1s)),
      requested_by_(requested_by) {}

std::vector<Report> ProbeBatch::run(std::span<const std::shared_ptr<Device>> devices) {
  attempts_.resize(devices.size());
  for (std::size_t i = 0; i < devices.size(); ++i) {
    attempts_[i].device = devices[i];
    begin(attempts_[i]);
  }
  for (;;) {
    const std::uint32_t seen = context_.bell->rings();
    if (closing_since_ == platform::kNever && context_.closing.load(std::memory_order_acquire)) {
      closing_since_ = platform::Clock::now();
    }
    platform::TimePoint next = platform::kNever;
    bool all_done = true;
    for (Attempt& attempt : attempts_) {
      if (!attempt.done) next = std::min(next, advance(attempt));
      all_done = all_done && attempt.done;
    }
    // Only after every attempt was looked at: taking a stack may last, and must not make another verdict late.
    for (Attempt& attempt : attempts_) {
      if (attempt.overdue) report_given_up(attempt);
    }
    if (all_done) break;
    context_.bell->wait(seen, next);
  }
  std::vector<Report> reports;
  reports.reserve(attempts_.size());
  for (Attempt& attempt : attempts_) reports.push_back(std::move(attempt.report));
  return reports;
}

// --- beginning ---

void ProbeBatch::begin(Attempt& attempt) {
  Report& report = attempt.report;
  report.deadline = timeout_;
  report.requested_by = requested_by_;
  if (!attempt.device) {
    report_error(attempt, fail(Errc::kInvalid, "no device was given").error());
    attempt.done = true;
    return;
  }
  Device& device = *attempt.device;
  report.device = device.name();
  report.node = device.node();
  if (auto taken = context_.take_for_probe(attempt.device); !taken) {
    report_error(attempt, std::move(taken).error());
    attempt.done = true;
    return;
  }
  const std::shared_ptr<Driver> driver = context_.driver_for(device);
  if (!driver) {
    report_error(attempt, fail(Errc::kNoDriver, device.name() + ": no driver matches this device",
                               "see which drivers this program has, and whether the device is of a kind that they know")
                              .error());
    report.result = "no_driver";
    end(attempt, false);
    return;
  }
  report.driver = driver->name();

  if (ProbeJob::nested_in(*context_.engine)) {
    // No nesting, as in the kernel: waiting for another worker from within a probe could wait for ourselves.
    report.inline_reason = "the caller is in a probe itself";
    report.cpu = context_.engine->current_worker_cpu();
    attempt.job = std::make_shared<ProbeJob>(*context_.engine, -1, context_.bell, attempt.device, driver, timeout_);
    attempt.job->run_here();
    return;
  }
  Place place = context_.placement.take(report.node);
  attempt.placed_on = place.cpu;
  report.inline_reason = std::move(place.inline_reason);
  report.cpu = place.cpu;
  attempt.job =
      std::make_shared<ProbeJob>(*context_.engine, place.cpu, context_.bell, attempt.device, driver, timeout_);
  if (!attempt.job->queue()) {
    report_error(attempt,
                 fail(Errc::kState, fmt::format("{}: CPU {} takes no work", device.name(), place.cpu)).error());
    report.cpu = -1;
    end(attempt, false);
  }
}

// --- looking ---

platform::TimePoint ProbeBatch::advance(Attempt& attempt) {
  switch (attempt.job->phase()) {
    case Job::Phase::kQueued: return advance_queued(attempt);
    case Job::Phase::kStarting: return platform::kNever;  // a few instructions from the next phase; the bell rings then
    case Job::Phase::kRunning: return advance_running(attempt);
    case Job::Phase::kJudged: return advance_judged(attempt);
    case Job::Phase::kGivenUp: return advance_given_up(attempt);
    case Job::Phase::kCancelled: break;
  }
  return platform::kNever;  // cancelled: it is done already
}

platform::TimePoint ProbeBatch::advance_queued(Attempt& attempt) {
  const platform::TimePoint now = platform::Clock::now();
  const platform::TimePoint limit = std::min(after(attempt.job->queued_at(), timeout_), closing_since_);
  if (now < limit) {
    const platform::TimePoint help_at = after(attempt.job->queued_at(), kRoomAfter);
    if (attempt.helped) return limit;
    if (now < help_at) return std::min(limit, help_at);
    attempt.helped = true;
    make_room_on(attempt.job->cpu());
    return limit;
  }
  if (!attempt.job->cancel()) return platform::kNever;  // it has just begun, and rings the bell
  Report& report = attempt.report;
  report.elapsed = now - attempt.job->queued_at();
  if (now >= closing_since_) {
    report_error(attempt,
                 fail(Errc::kState, report.device + ": the context was closed before the probe could begin").error());
  } else {
    report_error(attempt,
                 fail(Errc::kTimeout,
                      fmt::format("{}: the probe could not begin within {:.3f} ms: no worker of CPU {} was free",
                                  report.device, in_ms(report.elapsed), report.cpu),
                      "an item that neither blocks nor ends holds that CPU; look at what runs there")
                     .error());
  }
  report.cpu = -1;
  end(attempt, false);
  return platform::kNever;
}

/// A probe that sits in a device access, or computes, does not block as the engine sees it, and would so delay the other
/// probes of its CPU until it is given up.
void ProbeBatch::make_room_on(int cpu) {
  for (const Attempt& other : attempts_) {
    if (other.job && other.job->cpu() == cpu && other.job->phase() == Job::Phase::kRunning)
      other.job->write_off_worker();
  }
}

platform::TimePoint ProbeBatch::advance_running(Attempt& attempt) {
  const platform::TimePoint now = platform::Clock::now();
  const platform::TimePoint deadline = std::min(after(attempt.job->started_at(), timeout_), closing_since_);
  if (now < deadline) return deadline;
  const platform::TimePoint limit = after(deadline, grace_);
  const bool hangs = access_hangs(attempt);
  if (now < limit && !hangs) return limit;
  if (!attempt.job->give_up()) return now;  // it has just come back

  // The worker may still write to the recorder; what is read of it is whole, and the probe's end is its last entry.
  Report& report = attempt.report;
  report.elapsed = now - attempt.job->started_at();
  const FlightRecorder& recorder = attempt.device->state()->recorder();
  const std::optional<PendingAccess> pending = recorder.pending();
  const std::string step = recorder.step().empty() ? "probe" : recorder.step();
  if (pending) {
    report_error(
        attempt,
        fail_verdict(Verdict::kStalled, step, pending->reg,
                     fmt::format("{}: a {} {} that was begun {:.3f} ms after the start of the probe has not "
                                 "returned after {:.3f} ms",
                                 report.device, pending->write ? "write to" : "read of", pending->reg,
                                 static_cast<double>(pending->t_us) / 1000, in_ms(report.elapsed)),
                     "the device, or what carries its accesses, does not complete them: look at its link and at "
                     "completion timeouts; probe it in a process of its own")
            .error());
  } else {
    report_error(attempt, fail_verdict(Verdict::kStuck, step, recorder.last_register(),
                                       fmt::format("{}: the driver's probe has not returned after {:.3f} ms",
                                                   report.device, in_ms(report.elapsed)),
                                       "the driver waits for something without a deadline: its backtrace says where")
                              .error());
  }
  attempt.overdue = true;
  return platform::kNever;
}

/// At the deadline itself only an access that hangs for long is called stalled: another one may be on its way back.
bool ProbeBatch::access_hangs(const Attempt& attempt) const {
  const std::optional<PendingAccess> pending = attempt.device->state()->recorder().pending();
  if (!pending) return false;
  const platform::Nanoseconds elapsed = platform::Clock::now() - attempt.job->started_at();
  return elapsed - std::chrono::microseconds(pending->t_us) >= grace_;
}

platform::TimePoint ProbeBatch::advance_judged(Attempt& attempt) {
  ProbeJob& job = *attempt.job;
  if (!job.outcome().error) {
    publish(attempt);
    return platform::kNever;
  }
  const platform::TimePoint now = platform::Clock::now();
  if (attempt.silence_by == platform::kNever) {
    report_verdict(attempt);
    attempt.silence_by = now + kSilenceTimeout + kSilenceGrace;
  }
  if (!job.returned()) {
    if (now < attempt.silence_by) return attempt.silence_by;
    attempt.device->abandon();
    job.write_off_worker();
    context_.add_stray(attempt.job);
    note_unquiet(attempt, "silencing it has not come to an end");
  } else if (!job.silenced()) {
    note_unquiet(attempt, job.silenced().error().message());
  }
  end(attempt, false);
  return platform::kNever;
}

platform::TimePoint ProbeBatch::advance_given_up(Attempt& attempt) {
  SilenceJob& silencer = *attempt.silencer;
  const platform::TimePoint now = platform::Clock::now();
  if (silencer.phase() == Job::Phase::kJudged) {
    if (!silencer.silenced()) note_unquiet(attempt, silencer.silenced().error().message());
  } else {
    if (now < attempt.silence_by) return attempt.silence_by;
    if (!silencer.cancel() && silencer.give_up()) {
      silencer.write_off_worker();
      context_.add_stray(attempt.silencer);
    }
    note_unquiet(attempt, "silencing it has not come to an end");
  }
  end(attempt, false);
  return platform::kNever;
}

// --- ending ---

void ProbeBatch::publish(Attempt& attempt) {
  ProbeJob::Outcome& outcome = attempt.job->outcome();
  Report& report = attempt.report;
  DeviceState& state = *attempt.device->state();
  report.elapsed = outcome.elapsed;
  report.result = "ok";
  note_evidence(attempt);
  report.features = attempt.device->features();
  if (outcome.moved_to >= 0)
    report.notes.push_back(fmt::format("the worker was moved to OS CPU {} meanwhile", outcome.moved_to));
  if (outcome.elapsed > timeout_ / 2) {
    report.result = to_string(Verdict::kSlow);
    report.step = outcome.longest_wait.step.empty() ? state.recorder().step() : outcome.longest_wait.step;
    report.reg = outcome.longest_wait.reg;
    if (!report.reg.empty()) report.timeline = state.recorder().timeline(report.reg);
  }
  state.set_quarantined(false);
  // What the driver freed on its way is free, unless there is memory among it that an earlier probe left behind.
  if (!attempt.job->was_quarantined()) quarantine::release(state);
  attempt.device->probe_finished(true);
  context_.publish(attempt.device, std::move(outcome.bound));
  end(attempt, true);
}

void ProbeBatch::report_verdict(Attempt& attempt) {
  ProbeJob::Outcome& outcome = attempt.job->outcome();
  attempt.report.elapsed = outcome.elapsed;
  attempt.report.backtrace = attempt.device->state()->recorder().stack();
  attempt.report.features = attempt.device->features();
  if (outcome.moved_to >= 0) {
    attempt.report.notes.push_back(fmt::format("the worker was moved to OS CPU {} meanwhile", outcome.moved_to));
  }
  report_error(attempt, std::move(*outcome.error));
}

void ProbeBatch::report_given_up(Attempt& attempt) {
  attempt.overdue = false;
  Report& report = attempt.report;
  // The stack first: once the device is abandoned, the access that hangs may return.
  if (auto stack = capture_stack_of(attempt.job->thread(), Deadline::after(kStackTimeout))) {
    report.backtrace = *stack;
  } else {
    report.notes.push_back("the worker's stack could not be taken: " + stack.error().message());
  }
  attempt.device->state()->set_quarantined(true);
  attempt.device->abandon();
  attempt.job->write_off_worker();
  context_.add_stray(attempt.job);
  report.notes.push_back(fmt::format("the device was given up; a worker of CPU {} is written off", report.cpu));

  attempt.silencer = std::make_shared<SilenceJob>(*context_.engine, attempt.job->cpu(), context_.bell, attempt.device);
  attempt.silence_by = platform::Clock::now() + kSilenceTimeout + kSilenceGrace;
  if (!attempt.silencer->queue()) attempt.silencer->run_here();
  context_.bell->ring();  // there is something to look at again
}

void ProbeBatch::report_error(Attempt& attempt, Error error) {
  Report& report = attempt.report;
  report.result = error.verdict ? to_string(*error.verdict) : "error";
  report.step = error.step;
  report.reg = error.reg;
  if (attempt.job && attempt.job->phase() != Job::Phase::kCancelled) {
    const FlightRecorder& recorder = attempt.device->state()->recorder();
    if (report.step.empty()) report.step = recorder.step();
    if (!report.reg.empty()) report.timeline = recorder.timeline(report.reg);
  }
  report.error = std::move(error);
  if (attempt.device && report.error->code != Errc::kNoDriver) {
    const std::string unreadable = note_evidence(attempt);
    if (!unreadable.empty()) report.notes.push_back(unreadable);
  }
}

/// Returns why there may be more.
std::string ProbeBatch::note_evidence(Attempt& attempt) {
  DeviceControl::Evidence evidence = attempt.device->control().evidence();
  for (std::string& fault : evidence.faults) attempt.report.notes.push_back(std::move(fault));
  return std::move(evidence.unreadable);
}

void ProbeBatch::note_unquiet(Attempt& attempt, const std::string& why) {
  attempt.report.notes.push_back("the memory of the device stays in quarantine, since it may still write to it: " +
                                 why);
}

void ProbeBatch::end(Attempt& attempt, bool bound) {
  if (attempt.placed_on >= 0) context_.placement.give_back(attempt.placed_on);
  if (!bound) context_.untake(*attempt.device);
  attempt.done = true;
}

}  // namespace upci::inline UPCI_VARIANT::device
