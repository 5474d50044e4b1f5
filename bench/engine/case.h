// SPDX-License-Identifier: Apache-2.0
// What a benchmark is: one question, and those who answer it by turns.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/engine/usage.h"

namespace bench {

/// One answer. `value` is what is compared; the rest is shown beside it.
struct Sample {
  double value = 0;
  Usage usage;
  std::map<std::string, double> more;  // name with unit -> figure
};

struct Contestant {
  enum class Kind { kOurs, kVariant, kPeer, kFloor };  // kVariant: ours, in another way; shown, not judged
  Kind kind = Kind::kPeer;
  std::string name;
  std::string settings;
  /// Sets itself up, measures, and leaves nothing behind.
  std::function<Sample()> run;
};

/// What our figure must meet: ours divided by another's, pair by pair, median.
struct Target {
  enum class Against { kBestPeer, kFloor, kPeer, kVariant, kOwnFigure };  // kOwnFigure: no ratio, the figure itself
  Against against = Against::kBestPeer;
  std::string name = {};     // of the peer or the variant, where it is one of them
  std::string of = "value";  // "value", "cpu_seconds", or a figure of Sample::more
  bool at_most = true;
  double ratio = 1;
  /// Where something else than ours bounds the figure, `ratio` is this one: judged by the median of a figure of ours (Sample::more).
  struct Limit {
    std::string figure;
    double from = 0;  // at least that much
    double ratio = 1;
    std::string what;  // that limits it, for the table
  };
  std::optional<Limit> limit = {};
};

struct Case {
  std::string name;
  std::string title;
  std::string unit;
  bool lower_is_better = true;
  std::string method;  // how it is measured, for the reader of the table
  std::vector<Target> targets;
  std::vector<Contestant> contestants;
  std::string remark;  // what a reader must know to judge the figure
};

// What each program defines of its own.

/// For --help.
extern const char* const kDescription;
/// The cases, in the order of the table. Nothing is set up before a contestant runs.
std::vector<Case> all_cases();
struct PeerVersion {
  std::string name;
  std::string version;
};
/// Who was built in.
std::vector<PeerVersion> peer_versions();
/// The Debian packages of those who were not there when the program was built.
std::vector<std::string> missing_packages();

std::vector<Case> throughput_cases();
std::vector<Case> start_latency_cases();
std::vector<Case> blocked_cases();
std::vector<Case> work_on_cpu_cases();
std::vector<Case> flush_cases();
std::vector<Case> delayed_cases();
std::vector<Case> interrupt_cases();
std::vector<Case> requeue_cases();
std::vector<Case> scale_cases();
std::vector<Case> memory_cases();

}  // namespace bench
