// SPDX-License-Identifier: Apache-2.0
#include "device/wait.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "base/stack.h"
#include "base/wait.h"

namespace upci::inline UPCI_VARIANT::device {
namespace {

using namespace std::chrono_literals;

// Most devices answer within microseconds. Pauses below kLongPause are too short to hand the CPU to another item.
constexpr platform::Nanoseconds kShortestPause = 10us;
constexpr platform::Nanoseconds kLongestShortPause = 100us;
constexpr platform::Nanoseconds kLongPause = 1ms;

class Pauses {
 public:
  void rest(Deadline deadline) {
    const bool is_short = next_ <= kLongestShortPause;
    const platform::TimePoint until = std::min(Deadline::after(is_short ? next_ : kLongPause).when(), deadline.when());
    if (is_short) {
      platform::this_thread::sleep_until(until);
      next_ *= 2;
    } else {
      sleep_until(until);
    }
  }

 private:
  platform::Nanoseconds next_ = kShortestPause;
};

double in_ms(platform::Nanoseconds span) { return std::chrono::duration<double, std::milli>(span).count(); }

std::unexpected<Error> end_in(Verdict verdict, const RegisterWait& wait, std::string what, std::string advice = {}) {
  return fail_verdict(verdict, std::string(wait.step), std::string(wait.reg), std::move(what), std::move(advice));
}

std::unexpected<Error> end_given_up(const RegisterWait& wait) {
  return end_in(Verdict::kGone, wait, fmt::format("the device was given up while {} was waited for", wait.reg));
}

std::unexpected<Error> end_in(Verdict verdict, const RegisterWait& wait, std::uint64_t value,
                              platform::Nanoseconds took) {
  const bool all_ones = value == wait.all_ones;
  switch (verdict) {
    case Verdict::kGone:
      return end_in(verdict, wait,
                    fmt::format("{} reads all ones ({:#x}) and the device is no longer on its bus", wait.reg, value),
                    "the device left its bus: look for a surprise removal, a link that is down, or a device in D3cold");
    case Verdict::kNeedsReset:
      return end_in(verdict, wait, fmt::format("{} reads {:#x}: the device asks to be reset", wait.reg, value),
                    "the device met an error that it cannot recover from; reset it, and look at its own log");
    case Verdict::kRejected:
      return end_in(verdict, wait,
                    fmt::format("{} reads {:#x}: the device rejects what it was offered", wait.reg, value));
    default:
      if (all_ones) {
        return end_in(
            verdict, wait,
            fmt::format("{} still reads all ones ({:#x}) after {:.3f} ms, though the config space answers", wait.reg,
                        value, in_ms(took)),
            "decoding is off: check the memory and I/O enable bits of the Command register (bits 1 and 0) and that "
            "the BAR is assigned");
      }
      return end_in(verdict, wait, fmt::format("{} still reads {:#x} after {:.3f} ms", wait.reg, value, in_ms(took)),
                    wait.stuck_advice);
  }
}

/// What a value that was read means for the wait; nothing when it goes on.
std::optional<Verdict> verdict_of(WaitStep step, bool last) {
  switch (step) {
    case WaitStep::kNeedsReset: return Verdict::kNeedsReset;
    case WaitStep::kRejected: return Verdict::kRejected;
    default: return last ? std::optional(Verdict::kStuck) : std::nullopt;
  }
}

}  // namespace

// Not inlined: a report's backtrace names this function as the one that waited.
[[gnu::noinline]] Result<std::uint64_t> wait_for_register(DeviceState& state, DeviceControl& control,
                                                          const RegisterWait& wait) {
  const bool records = state.records();
  if (records && !state.abandoned()) state.recorder().enter_step(wait.step);
  const platform::TimePoint begin = platform::Clock::now();
  Pauses pauses;
  for (;;) {
    // Before the read: the read that makes the verdict `stuck` is one at the deadline or after it.
    const bool last = wait.deadline.expired();
    if (state.abandoned()) return end_given_up(wait);
    const std::uint64_t value = wait.read();
    if (state.abandoned()) return end_given_up(wait);

    const platform::Nanoseconds took = platform::Clock::now() - begin;
    WaitStep step = wait.judge(value);
    if (step == WaitStep::kDone && value != wait.all_ones) {
      if (records) state.note_wait(wait.step, wait.reg, took);
      return value;
    }
    const bool withdrawn = step != WaitStep::kDone && control.notice() != DeviceControl::Notice::kNone;
    std::optional<Verdict> verdict;
    if (withdrawn) {
      if (records) state.recorder().keep_stack(capture_stack());
      return end_in(Verdict::kGone, wait,
                    fmt::format("the device was withdrawn while {} was waited for; it reads {:#x}", wait.reg, value),
                    "it is being unplugged or unbound, or the platform met an error of it");
    }
    if (value == wait.all_ones && !control.present()) {
      verdict = Verdict::kGone;
    } else if (step == WaitStep::kDone) {
      if (records) state.note_wait(wait.step, wait.reg, took);
      return value;
    } else {
      // All ones from a device that is there are no answer, whatever bits the judge sees in them.
      if (value == wait.all_ones) step = WaitStep::kAgain;
      verdict = verdict_of(step, last);
    }
    if (verdict) {
      if (records) state.recorder().keep_stack(capture_stack());
      return end_in(*verdict, wait, value, took);
    }
    pauses.rest(wait.deadline);
  }
}

}  // namespace upci::inline UPCI_VARIANT::device
