// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/engine/statistics.h"

namespace bench {

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  const auto [minimum, maximum] = std::minmax_element(values.begin(), values.end());
  return {.median = median(values), .minimum = *minimum, .maximum = *maximum};
}

std::vector<double> Series::figures(const std::string& name) const {
  std::vector<double> found;
  for (const Sample& sample : samples) {
    if (name == "value") {
      found.push_back(sample.value);
    } else if (name == "cpu_seconds") {
      found.push_back(sample.usage.cpu_seconds);
    } else if (name == "wait_seconds") {
      found.push_back(sample.usage.wait_seconds);
    } else if (name == "others") {
      found.push_back(sample.usage.others);
    } else if (const auto more = sample.more.find(name); more != sample.more.end()) {
      found.push_back(more->second);
    }
  }
  return found;
}

const Series* Result::ours() const {
  for (const Series& one : series) {
    if (one.contestant->kind == Contestant::Kind::kOurs) return &one;
  }
  return nullptr;
}

Spread Result::ratio_to(const Series& other, const std::string& figure) const {
  const Series* mine = ours();
  if (mine == nullptr) return {};
  const std::vector<double> a = mine->figures(figure);
  const std::vector<double> b = other.figures(figure);
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); i++) {
    if (b[i] > 0) ratios.push_back(a[i] / b[i]);
  }
  return spread_of(ratios);
}

namespace {

/// Who a target compares us with; nullptr when they were not built in.
const Series* opponent(const Result& result, const Target& target) {
  using Against = Target::Against;
  const Series* best = nullptr;
  for (const Series& one : result.series) {
    const auto kind = one.contestant->kind;
    const bool candidate = (target.against == Against::kBestPeer && kind == Contestant::Kind::kPeer) ||
                           (target.against == Against::kPeer && kind == Contestant::Kind::kPeer) ||
                           (target.against == Against::kFloor && kind == Contestant::Kind::kFloor) ||
                           (target.against == Against::kVariant && kind == Contestant::Kind::kVariant);
    if (!candidate || (!target.name.empty() && target.name != one.contestant->name)) continue;
    if (best == nullptr) {
      best = &one;
      continue;
    }
    const double now = median(one.figures(target.of));
    const double before = median(best->figures(target.of));
    if (result.measured->lower_is_better ? now < before : now > before) best = &one;
  }
  return best;
}

/// Whether the figures say that the target's limit is reached.
bool limited(const Result& result, const Target& target) {
  if (!target.limit) return false;
  const std::vector<double> figures = result.ours()->figures(target.limit->figure);
  return !figures.empty() && median(figures) >= target.limit->from;
}

Verdict judge(const Result& result, const Target& target) {
  Verdict verdict;
  const bool limit = limited(result, target);
  const double ratio = limit ? target.limit->ratio : target.ratio;
  const char* bound = target.at_most ? "at most" : "at least";
  const std::string what = target.of == "value" ? "" : target.of + " ";
  if (target.against == Target::Against::kOwnFigure) {
    verdict.text = fmt::format("{}: {} {:g}", target.of, bound, ratio);
    std::vector<double> figures = result.ours()->figures(target.of);
    verdict.known = !figures.empty() && !std::isnan(figures.front());
    verdict.ratio = spread_of(std::move(figures));
  } else {
    const Series* other = opponent(result, target);
    const std::string name = other != nullptr ? other->contestant->name : target.name;
    const char* role = target.against == Target::Against::kBestPeer ? "the best peer, " : "";
    verdict.text = fmt::format("{}{} {:g} x {}{}", what, bound, ratio, role, name);
    if (other != nullptr) verdict.ratio = result.ratio_to(*other, target.of);
    verdict.known = other != nullptr;
  }
  if (limit) verdict.text += fmt::format(", as {} is the limit", target.limit->what);
  verdict.met = verdict.known && (target.at_most ? verdict.ratio.median <= ratio : verdict.ratio.median >= ratio);
  return verdict;
}

}  // namespace

Result run_case(const Case& measured, int pairs, const std::function<void(int)>& progress) {
  Result result;
  result.measured = &measured;
  for (const Contestant& contestant : measured.contestants) {
    result.series.push_back({.contestant = &contestant, .samples = {}});
  }
  for (int round = 0; round < pairs; round++) {
    progress(round);
    for (Series& one : result.series) one.samples.push_back(one.contestant->run());
  }
  for (const Target& target : measured.targets) result.verdicts.push_back(judge(result, target));
  return result;
}

}  // namespace bench
