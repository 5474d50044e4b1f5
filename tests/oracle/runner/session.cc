// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/runner/session.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include "base/platform.h"
#include "tests/oracle/runner/rest.h"
#include "tests/oracle/runner/transcript.h"

namespace upci::inline UPCI_VARIANT::oracle {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kPoll = 500us;
constexpr auto kEnd = 30s;  // until all threads have come back after quit()

/// A thread of the script. It is pinned to CPU 0, so that "the caller's CPU" is the same one everywhere.
///
/// Locking:  M = mutex_.
class Actor {
 public:
  Actor(Subject& subject, int number) : subject_(subject), name_(std::to_string(number)), thread_([this] { run(); }) {}
  ~Actor() {
    {
      std::lock_guard guard(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void begin(const std::string& command) {
    {
      std::lock_guard guard(mutex_);
      command_ = name_ + " " + command;
    }
    changed_.notify_all();
  }

  bool idle() {
    std::lock_guard guard(mutex_);
    return !command_.has_value();
  }

  std::string trouble() {
    std::lock_guard guard(mutex_);
    return trouble_;
  }

 private:
  void run() {
    (void)platform::this_thread::set_cpu(0);
    std::unique_lock guard(mutex_);
    for (;;) {
      changed_.wait(guard, [this] { return ending_ || command_.has_value(); });
      if (!command_) return;
      const std::string command = *command_;
      guard.unlock();
      auto done = subject_.command(command);
      guard.lock();
      if (!done) trouble_ = done.error().message();
      command_.reset();
    }
  }

  Subject& subject_;
  const std::string name_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<std::string> command_;  // M
  std::string trouble_;                 // M
  bool ending_ = false;                 // M
  std::thread thread_;                  // last: it uses the others
};

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

/// The windows of a transcript: each a line and its events.
std::vector<std::vector<std::string>> windows(const std::vector<std::string>& transcript) {
  std::vector<std::vector<std::string>> found;
  for (const std::string& line : transcript) {
    if (line.starts_with("  ") && !found.empty()) {
      found.back().push_back(line);
    } else {
      found.push_back({line});
    }
  }
  return found;
}

class Run {
 public:
  Run(const Script& script, Subject& subject, const Patience& patience, const std::vector<std::string>* expected)
      : script_(script),
        subject_(subject),
        patience_(patience),
        transcript_(script),
        rest_(subject.waits_uninterruptibly()) {
    if (expected != nullptr) expected_ = windows(*expected);
    for (int i = 1; i <= script.threads; i++) actors_.push_back(std::make_unique<Actor>(subject, i));
  }

  Result<Outcome> all() {
    Outcome outcome;
    Result<void> done;
    for (std::size_t i = 0; i < script_.lines.size() && done && outcome.difference.empty() && !outcome.late; i++) {
      done = one(script_.lines[i],
                 expected_.empty()      ? nullptr
                 : i < expected_.size() ? &expected_[i]
                                        : &nothing_,
                 outcome);
    }
    auto ended = end();
    if (!done) return std::unexpected(std::move(done).error());
    if (!ended) return std::unexpected(std::move(ended).error());
    return outcome;
  }

 private:
  Result<void> one(const Line& line, const std::vector<std::string>* expected, Outcome& outcome) {
    if (line.kind == Line::Kind::kDefinition) {
      UPCI_TRY(subject_.command(line.command));
      outcome.transcript.push_back(line.text);
      return {};
    }
    bool skipped = false;
    const auto begun = Clock::now();
    if (line.kind == Line::Kind::kElapse) {
      std::this_thread::sleep_for(script_.elapse());
    } else {
      skipped = transcript_.blocked(line.thread);
      if (!skipped) actors_[static_cast<std::size_t>(line.thread) - 1]->begin(line.op.command);
    }
    std::string log;
    const std::vector<std::string> shown = settle(line, skipped, expected, log);
    transcript_.accept(log);
    if (is_late(line, skipped, begun, log)) {
      outcome.late = true;
      return {};
    }
    outcome.transcript.insert(outcome.transcript.end(), shown.begin(), shown.end());
    if (expected != nullptr && shown != *expected) {
      outcome.difference = "expected\n" + joined(*expected) + "but it is\n" + joined(shown);
    }
    for (const auto& actor : actors_) {
      if (const std::string trouble = actor->trouble(); !trouble.empty()) return fail(Errc::kState, trouble);
    }
    return {};
  }

  /// Whether a timer of this line, or of one since the last `elapse`, may have gone off by now.
  bool is_late(const Line& line, bool skipped, Clock::time_point begun, const std::string& log) {
    if (line.kind == Line::Kind::kElapse) {
      due_.reset();
      return false;
    }
    const auto note = [&](const Op& op) {
      const auto due = begun + std::chrono::milliseconds(op.delay_ms);
      due_ = std::min(due_.value_or(due), due);
    };
    if (!skipped && line.op.arms()) note(line.op);
    for (const WorkSpec& work : script_.works) {
      for (const Op& step : work.body) {
        if (step.arms() && log.find("call " + work.name + " " + step.command) != std::string::npos) note(step);
      }
    }
    return due_ && Clock::now() >= *due_;
  }

  /// Keeps which items are between two of their steps: on their way to the next one.
  void note_items(const std::string& log) {
    std::istringstream lines(log);
    for (std::string line; std::getline(lines, line);) {
      const std::vector<std::string> words = words_of(line);
      if (words.size() < 2 || std::ranges::find(script_.works, words[1], &WorkSpec::name) == script_.works.end())
        continue;
      if (words[0] == "start" || words[0] == "return") {
        between_.insert(words[1]);
      } else if (words[0] == "call" || words[0] == "end") {
        between_.erase(words[1]);
      }
    }
  }

  /// Waits until the line has had its effect.
  std::vector<std::string> settle(const Line& line, bool skipped, const std::vector<std::string>* expected,
                                  std::string& log) {
    const auto begun = Clock::now();
    auto last = begun;
    std::vector<std::string> shown = transcript_.render(line, log, skipped);
    // An operation that was begun has at least been called.
    bool called = line.kind != Line::Kind::kOp || skipped;
    bool returned = called;
    const std::string call = "call " + std::to_string(line.thread) + " ";
    const std::string back = "return " + std::to_string(line.thread) + " ";
    for (bool rested = false;;) {
      if (const std::string more = subject_.read_log(); !more.empty()) {
        log += more;
        note_items(more);
        last = Clock::now();
        called = called || log.find(call) != std::string::npos;
        returned = returned || log.find(back) != std::string::npos;
        shown = transcript_.render(line, log, skipped);
        rested = false;
      }
      const auto now = Clock::now();
      if (rested || now - begun > patience_.longest + patience_.quiet) return shown;
      const auto quiet = expected != nullptr ? patience_.settled : returned ? patience_.quiet : patience_.blocked;
      // What is logged as begun may not have come to where it waits, and the next line must find it there.
      rested = called && between_.empty() && (expected == nullptr || shown == *expected) && now - last >= quiet &&
               rest_.look(subject_.spinning());
      if (!rested) std::this_thread::sleep_for(kPoll);
    }
  }

  Result<void> end() {
    subject_.quit();
    const auto until = Clock::now() + kEnd;
    for (const auto& actor : actors_) {
      while (!actor->idle()) {
        if (Clock::now() > until) {
          // The thread cannot be left behind with what it uses: the process ends, and says why.
          std::fputs("a thread of the script does not come back although everything was cancelled\n", stderr);
          std::_Exit(70);
        }
        std::this_thread::sleep_for(kPoll);
      }
    }
    return {};
  }

  const Script& script_;
  Subject& subject_;
  const Patience patience_;
  Transcript transcript_;
  Rest rest_;
  std::set<std::string> between_;         // items between two steps
  std::optional<Clock::time_point> due_;  // the first timer that can go off before the next `elapse`
  std::vector<std::vector<std::string>> expected_;
  const std::vector<std::string> nothing_;
  std::vector<std::unique_ptr<Actor>> actors_;
};

}  // namespace

Result<Outcome> run_script(const Script& script, Subject& subject, const Patience& patience,
                           const std::vector<std::string>* expected) {
  return Run(script, subject, patience, expected).all();
}

Result<Outcome> run_in_time(std::string_view text,
                            const std::function<Result<std::unique_ptr<Subject>>()>& make_subject,
                            const Patience& patience, const std::vector<std::string>* expected) {
  for (const int times : {1, 4, 16, 64}) {
    UPCI_TRY_ASSIGN(const Script script, parse_script(text, times * kSoonMs));
    UPCI_TRY_ASSIGN(const std::unique_ptr<Subject> subject, make_subject());
    auto outcome = run_script(script, *subject, patience, expected);
    if (!outcome || !outcome->late) return outcome;
  }
  return fail(Errc::kTimeout, "a line of the script took longer than any time that its timers were given",
              "run it where less else runs");
}

}  // namespace upci::inline UPCI_VARIANT::oracle
