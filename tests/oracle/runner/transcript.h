// SPDX-License-Identifier: Apache-2.0
// From a subject's log to text that two subjects can be compared by: what may come in either order is put into one.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/oracle/runner/script.h"

namespace upci::inline UPCI_VARIANT::oracle {

/// Renders the log of a script, line by line. Between two lines lies a window of events. Their order is kept where it means
/// something, and is alphabetical otherwise. It means something between
///   - the events of one work,
///   - the starts and ends of the works of a queue that runs one at a time (of one CPU, where it is per CPU),
///   - the starts of per-CPU works on the same CPU with the same priority.
/// A wait that ends too early is no matter of order: the line says so.
class Transcript {
 public:
  explicit Transcript(const Script& script);

  /// True while an operation of that thread has not returned.
  bool blocked(int thread) const;
  /// The line as it is shown, then its events. log: what was logged since the line before.
  std::vector<std::string> render(const Line& line, std::string_view log, bool skipped) const;
  /// Takes the window for done.
  void accept(std::string_view log);

 private:
  struct Work {
    bool running = false;
    bool pending = false;  // on a queue; not: behind a timer
    bool cpu_known = false;
    int starts = 0;
    int changes = 0;  // times that it was queued, or taken back: a wait is for those before it
    std::string queue;
  };
  struct Call {
    std::string command;
    std::map<std::string, Work, std::less<>> before;  // the works when it was called
  };
  struct State {
    std::map<std::string, Work, std::less<>> works;
    std::map<std::string, Call, std::less<>> calls;  // by actor
  };
  struct Item {
    std::string text;
    std::vector<std::string> chains;  // two items with a common one keep their order
  };

  void step(State& state, std::string_view event, std::vector<Item>& items, const std::string& inline_actor,
            std::string& inline_value) const;
  void start(State& state, const std::string& name, const std::string& cpu, std::vector<Item>& items) const;
  void finish(State& state, const std::string& actor, const std::string& value, std::vector<Item>& items,
              const std::string& inline_actor, std::string& inline_value) const;
  std::vector<std::string> chains_of(const std::string& name, const Work& work) const;
  static std::string too_early(const State& state, const Call& call, const Op& op, long value);
  static void note_queueing(State& state, const Call& call, const Op& op, const std::string& actor, long value);

  const Script& script_;
  std::map<std::string, Op, std::less<>> ops_;  // all operations of the script, by command
  std::set<std::string, std::less<>> raised_;   // queues whose limit the script changes to more than 1
  State state_;
};

}  // namespace upci::inline UPCI_VARIANT::oracle
