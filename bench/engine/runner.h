// SPDX-License-Identifier: Apache-2.0
// Runs a case's contestants by turns (A B C A B C ...) and compares them pair by pair.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/engine/case.h"

namespace bench {

struct Spread {
  double median = 0;
  double minimum = 0;
  double maximum = 0;
};

Spread spread_of(std::vector<double> values);

/// All samples of a contestant; the n-th one of each was taken in the same round.
struct Series {
  const Contestant* contestant = nullptr;
  std::vector<Sample> samples;

  /// "value", "cpu_seconds", "wait_seconds", "others", or a figure of Sample::more, of each sample.
  std::vector<double> figures(const std::string& name) const;
};

struct Verdict {
  std::string text;  // what was asked
  Spread ratio;      // what came out
  bool met = false;
  bool known = false;  // false: nobody to compare with was built in
};

struct Result {
  const Case* measured = nullptr;
  std::vector<Series> series;
  std::vector<Verdict> verdicts;

  const Series* ours() const;
  /// Ours divided by theirs, pair by pair.
  Spread ratio_to(const Series& other, const std::string& figure) const;
};

/// `progress` is told of each round.
Result run_case(const Case& measured, int pairs, const std::function<void(int round)>& progress);

}  // namespace bench
