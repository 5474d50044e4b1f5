// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/report.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "bench/engine/affinity.h"
#include "bench/engine/clock.h"
#include "bench/engine/statistics.h"

namespace bench {

namespace {

std::string figure(double value) {
  if (std::isnan(value)) return "?";
  const double size = std::fabs(value);
  if (size >= 1000) return fmt::format("{:.0f}", value);
  if (size >= 100) return fmt::format("{:.1f}", value);
  return fmt::format("{:.2f}", value);
}

const char* name_of(Contestant::Kind kind) {
  switch (kind) {
    case Contestant::Kind::kOurs: return "ours";
    case Contestant::Kind::kVariant: return "variant";
    case Contestant::Kind::kPeer: return "peer";
    case Contestant::Kind::kFloor: return "floor";
  }
  return "?";
}

std::size_t disturbed(const Series& series) {
  return static_cast<std::size_t>(std::count_if(series.samples.begin(), series.samples.end(),
                                                [](const Sample& sample) { return sample.usage.others > kDisturbed; }));
}

}  // namespace

std::string text_of(const Result& result) {
  const Case& measured = *result.measured;
  std::string text = fmt::format("{}: {}  [{}, {} is better]\n  {}\n", measured.name, measured.title, measured.unit,
                                 measured.lower_is_better ? "lower" : "higher", measured.method);
  text += fmt::format("  {:<24} {:>10} {:>10} {:>10}  {:>24}  {:>7} {:>8} {:>7}\n", "", "median", "min", "max",
                      "ours / this (min, max)", "CPU s", "wait ms", "others");
  for (const Series& one : result.series) {
    const Spread value = spread_of(one.figures("value"));
    std::string ratio;
    if (one.contestant->kind != Contestant::Kind::kOurs) {
      const Spread to = result.ratio_to(one, "value");
      ratio = fmt::format("{} ({}, {})", figure(to.median), figure(to.minimum), figure(to.maximum));
    }
    const std::size_t marked = disturbed(one);
    text += fmt::format(
        "  {:<24} {:>10} {:>10} {:>10}  {:>24}  {:>7.3f} {:>8.1f} {:>6.1f}%{}\n",
        one.contestant->kind == Contestant::Kind::kFloor ? "floor: " + one.contestant->name : one.contestant->name,
        figure(value.median), figure(value.minimum), figure(value.maximum), ratio, median(one.figures("cpu_seconds")),
        median(one.figures("wait_seconds")) * 1e3, median(one.figures("others")) * 100,
        marked == 0 ? "" : fmt::format("  ! {} of {} samples disturbed", marked, one.samples.size()));
    std::string more;
    if (!one.samples.empty()) {
      for (const auto& entry : one.samples.front().more) {
        more += fmt::format("{}{} {}", more.empty() ? "" : ", ", entry.first, figure(median(one.figures(entry.first))));
      }
    }
    if (!more.empty()) text += fmt::format("  {:<24} {}\n", "", more);
  }
  for (const Verdict& verdict : result.verdicts) {
    text += fmt::format(
        "  target: {}: {}\n", verdict.text,
        !verdict.known ? std::string("not known: not built in")
                       : fmt::format("{} ({}, {}): {}", figure(verdict.ratio.median), figure(verdict.ratio.minimum),
                                     figure(verdict.ratio.maximum), verdict.met ? "met" : "MISSED"));
  }
  for (const Series& one : result.series) {
    text += fmt::format("  {}: {}\n", one.contestant->name, one.contestant->settings);
  }
  if (!measured.remark.empty()) text += fmt::format("  {}\n", measured.remark);
  return text;
}

nlohmann::ordered_json json_of(const Result& result) {
  using Json = nlohmann::ordered_json;
  const auto spread = [](const Spread& values) {
    return Json{{"median", values.median}, {"min", values.minimum}, {"max", values.maximum}};
  };
  const Case& measured = *result.measured;
  Json json{{"case", measured.name},        {"title", measured.title},
            {"unit", measured.unit},        {"lower_is_better", measured.lower_is_better},
            {"method", measured.method},    {"remark", measured.remark},
            {"contestants", Json::array()}, {"targets", Json::array()}};
  for (const Series& one : result.series) {
    Json contestant{{"name", one.contestant->name},
                    {"kind", name_of(one.contestant->kind)},
                    {"settings", one.contestant->settings},
                    {"value", spread(spread_of(one.figures("value")))},
                    {"ours_to_this", spread(result.ratio_to(one, "value"))},
                    {"disturbed", disturbed(one)},
                    {"samples", Json::array()}};
    for (const Sample& sample : one.samples) {
      contestant["samples"].push_back(Json{{"value", sample.value},
                                           {"seconds", sample.usage.seconds},
                                           {"cpu_seconds", sample.usage.cpu_seconds},
                                           {"wait_seconds", sample.usage.wait_seconds},
                                           {"others", sample.usage.others},
                                           {"voluntary_switches", sample.usage.voluntary_switches},
                                           {"more", sample.more}});
    }
    json["contestants"].push_back(std::move(contestant));
  }
  for (const Verdict& verdict : result.verdicts) {
    json["targets"].push_back(
        Json{{"text", verdict.text}, {"known", verdict.known}, {"met", verdict.met}, {"ratio", spread(verdict.ratio)}});
  }
  return json;
}

nlohmann::ordered_json machine() {
  using Json = nlohmann::ordered_json;
  utsname kernel{};
  ::uname(&kernel);
  std::string model = "unknown";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  }
  Json peers = Json::array();
  for (const PeerVersion& peer : peer_versions()) peers.push_back(Json{{"name", peer.name}, {"version", peer.version}});
  std::string hypervisor = "no";
  std::ifstream again("/proc/cpuinfo");
  for (std::string line; std::getline(again, line);) {
    if (line.starts_with("flags") && line.find(" hypervisor") != std::string::npos) hypervisor = "yes";
  }
  return Json{{"cpu", model},
              {"cpus", machine_cpus().size()},
              {"virtual_machine", hypervisor},
              {"kernel", fmt::format("{} {}", kernel.sysname, kernel.release)},
              {"compiler", fmt::format("{} {}",
#if defined(__clang__)
                                       "clang", __clang_version__
#else
                                       "gcc", __VERSION__
#endif
                                       )},
              {"clock", kClock},
              {"peers", std::move(peers)},
              {"missing_packages", missing_packages()}};
}

}  // namespace bench
