// SPDX-License-Identifier: Apache-2.0
// Runs the body of a test in simulation under every schedule of it, up to a bound on preemptions. For small scenarios: the
// number of schedules grows with the number of scheduling points to the power of the bound.
//
//   TEST(Queue, NoOrderLosesAnItem) {
//     const test::Exploration all = test::for_each_schedule([] { ... two threads, a few operations each, EXPECT ... });
//     EXPECT_TRUE(all.complete);
//   }
//
// Depth first, each schedule from the start again (stateless), as CHESS and loom do it. The body must depend on nothing but
// the schedule. The first schedule that fails ends the test and prints how to run it again:
//   UPCI_SCHEDULE=p:0*37,1,2   runs that one schedule only (p: the bound, then the decisions; trailing zeros are left out)
#pragma once

#include <gtest/gtest.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::test {

/// What bounds an exploration.
struct Bounds {
  unsigned preemptions = 2;               // how often a schedule may stop a fiber that could go on
  std::uint64_t max_schedules = 200'000;  // the exploration is not complete after so many
  platform::sim::Options run = {.max_steps = 100'000};
};

struct Exploration {
  std::uint64_t schedules = 0;  // that were run
  bool complete = false;        // all schedules within the bound on preemptions were
  bool bounded = false;         // more preemptions would give more schedules
  bool failed = false;
  std::string schedule;  // that failed
};

/// A list of decisions, and the way to the next one in depth-first order.
class Schedule final : public platform::sim::Chooser {
 public:
  std::uint32_t choose(std::uint32_t options) noexcept override {
    if (next_ == decisions_.size()) decisions_.push_back({.chosen = 0, .options = options});
    Decision& decision = decisions_[next_++];
    decision.options = options;
    return decision.chosen;
  }
  void restart() { next_ = 0; }
  /// False when all have been gone through.
  bool advance() {
    decisions_.resize(next_);  // a shorter run than the one before left some behind
    while (!decisions_.empty() && decisions_.back().chosen + 1 >= decisions_.back().options) decisions_.pop_back();
    if (decisions_.empty()) return false;
    ++decisions_.back().chosen;
    return true;
  }
  /// "0*37,1,2"
  std::string text() const {
    std::size_t count = next_ < decisions_.size() ? next_ : decisions_.size();
    while (count > 0 && decisions_[count - 1].chosen == 0) --count;
    std::string text;
    for (std::size_t i = 0; i < count;) {
      std::size_t end = i + 1;
      while (end < count && decisions_[end].chosen == decisions_[i].chosen) ++end;
      text += (text.empty() ? "" : ",") + std::to_string(decisions_[i].chosen);
      if (end - i > 1) text += "*" + std::to_string(end - i);
      i = end;
    }
    return text;
  }
  /// False when it is not of that form.
  bool parse(std::string_view text) {
    decisions_.clear();
    while (!text.empty()) {
      std::uint32_t chosen = 0;
      std::size_t times = 1;
      if (!number(text, chosen)) return false;
      if (text.starts_with('*')) {
        text.remove_prefix(1);
        if (!number(text, times) || times > 10'000'000) return false;
      }
      decisions_.insert(decisions_.end(), times, {.chosen = chosen, .options = chosen + 1});
      if (text.empty()) return true;
      if (!text.starts_with(',')) return false;
      text.remove_prefix(1);
    }
    return true;
  }

  template <class T>
  static bool number(std::string_view& text, T& value) {
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc()) return false;
    text.remove_prefix(static_cast<std::size_t>(parsed.ptr - text.data()));
    return true;
  }

 private:
  struct Decision {
    std::uint32_t chosen = 0;
    std::uint32_t options = 0;
  };
  std::vector<Decision> decisions_;
  std::size_t next_ = 0;
};

namespace detail {

template <class F>
void run_schedule(Schedule& schedule, unsigned preemptions, F& body, const Bounds& bounds, bool report,
                  Exploration& result) {
  platform::sim::Options options = bounds.run;
  options.chooser = &schedule;
  options.preemptions = preemptions;
  options.stacks = report;
  schedule.restart();
  const platform::sim::Outcome outcome = platform::sim::run(options, [&body] { body(); });
  ++result.schedules;
  result.bounded |= outcome.bounded;
  result.failed = !outcome.ok() || (report && testing::Test::HasFailure());
  if (!outcome.ok() && report) ADD_FAILURE() << outcome.text;
}

}  // namespace detail

/// Goes through the schedules until `body` fails under one, which `failing()` decides when the run itself has finished.
/// Reports nothing to the test: for_each_schedule() does.
template <class F, class Failing>
Exploration explore(F body, Failing failing, const Bounds& bounds = {}) {
  Exploration result;
  Schedule schedule;
  for (;;) {
    detail::run_schedule(schedule, bounds.preemptions, body, bounds, false, result);
    if (result.failed || failing()) {
      result.failed = true;
      result.schedule = std::to_string(bounds.preemptions) + ":" + schedule.text();
      return result;
    }
    if (!schedule.advance()) {
      result.complete = true;
      return result;
    }
    if (result.schedules == bounds.max_schedules) return result;
  }
}

/// Runs one schedule, as text() and the replay line have it, and reports what fails.
template <class F>
Exploration replay_schedule(std::string_view text, F body, const Bounds& bounds = {}) {
  Exploration result;
  Schedule schedule;
  unsigned preemptions = 0;
  if (!Schedule::number(text, preemptions) || !text.starts_with(':') || !schedule.parse(text.substr(1))) {
    ADD_FAILURE() << "not a schedule: UPCI_SCHEDULE is for example 2:0*37,1,2";
    result.failed = true;
    return result;
  }
  detail::run_schedule(schedule, preemptions, body, bounds, true, result);
  return result;
}

/// Runs `body` under every schedule within the bounds; the first that fails is a test failure.
template <class F>
Exploration for_each_schedule(F body, const Bounds& bounds = {}) {
  if (const char* wanted = std::getenv("UPCI_SCHEDULE"); wanted != nullptr && *wanted != '\0') {
    return replay_schedule(wanted, body, bounds);
  }
  Exploration result = explore(body, [] { return testing::Test::HasFailure(); }, bounds);
  if (!result.failed) return result;
  if (!testing::Test::HasFailure()) replay_schedule(result.schedule, body, bounds);  // for its text
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  ADD_FAILURE() << "schedule " << result.schedules << " fails; replay: UPCI_SCHEDULE='" << result.schedule << "' "
                << program_invocation_name << " --gtest_filter="
                << (test == nullptr ? std::string("*") : std::string(test->test_suite_name()) + "." + test->name());
  return result;
}

}  // namespace upci::inline UPCI_VARIANT::test
