// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/wq_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace upci::tool {
namespace {

/// Whoever named it may have put a terminal's control codes there.
std::string clean(const Json& text) {
  std::string result = text.get<std::string>();
  std::ranges::replace_if(result, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return result;
}

std::uint64_t number(const Json& json, const char* key) { return json.at(key).get<std::uint64_t>(); }

bool has_flag(const Json& queue, std::string_view name) {
  const Json& flags = queue.at("flags");
  return std::find(flags.begin(), flags.end(), name) != flags.end();
}

std::string or_dash(bool applies, std::uint64_t value) { return applies ? std::to_string(value) : "-"; }
std::string or_dash(const Json& value) { return value.is_null() ? "-" : std::to_string(value.get<int>()); }

/// "12.3us", "4.5ms": with three digits or so.
std::string duration(double us) {
  if (us < 1000) return fmt::format("{:.1f}us", us);
  if (us < 1e6) return fmt::format("{:.1f}ms", us / 1000);
  return fmt::format("{:.2f}s", us / 1e6);
}

std::string head(const Json& dump) {
  std::string text = fmt::format("process {}, blocking is noticed by: {}", number(dump, "pid"), clean(dump.at("tier")));
  if (const std::string note = clean(dump.at("tier_note")); !note.empty()) text += fmt::format(" ({})", note);
  return text + "\n";
}

std::string monitor_table(const Json& dump) {
  std::string text = fmt::format("{:<24} {:>8} {:>5} {:>8} {:>7} {:>7} {:>7} {:>7}\n", "workqueue", "total", "infl",
                                 "CPUtime", "CPUitsv", "CMW/RPR", "mayday", "rescued");
  for (const Json& queue : dump.at("workqueues")) {
    const bool unbound = has_flag(queue, "unbound") || has_flag(queue, "ordered");
    const bool reclaim = has_flag(queue, "mem_reclaim");
    text +=
        fmt::format("{:<24.24} {:>8} {:>5} {:>8.1f} {:>7} {:>7} {:>7} {:>7}\n", clean(queue.at("name")),
                    number(queue, "total"), number(queue, "in_flight"), queue.at("cpu_time_ms").get<double>() / 1000,
                    or_dash(!unbound && !has_flag(queue, "cpu_intensive"), number(queue, "cpu_intensive")),
                    number(queue, unbound ? "repatriated" : "cm_wakeups"), or_dash(reclaim, number(queue, "mayday")),
                    or_dash(reclaim, number(queue, "rescued")));
  }
  return text;
}

std::string place(const Json& pool) {
  if (!pool.at("cpu").is_null()) return fmt::format("cpu={}", pool.at("cpu").get<int>());
  return fmt::format("cpus={}", clean(pool.at("pod")));
}

/// All pools, or those only that have workers.
std::string pool_table(const Json& dump, bool all) {
  std::string text = fmt::format("{:<5} {:<8} {:<12} {:>4} {:>4} {:>7} {:>5} {:>7} {:>7} {:>9}  {}\n", "pool", "kind",
                                 "where", "node", "nice", "workers", "idle", "running", "waiting", "watchdog", "tier");
  for (const Json& pool : dump.at("pools")) {
    if (!all && number(pool, "workers") == 0) continue;
    text += fmt::format(
        "{:<5} {:<8} {:<12} {:>4} {:>4} {:>7} {:>5} {:>7} {:>7} {:>8.1f}s  {}{}\n", number(pool, "pool"),
        clean(pool.at("kind")), place(pool), or_dash(pool.at("node")), pool.at("nice").get<int>(),
        number(pool, "workers"), number(pool, "idle"), pool.at("running").get<int>(), number(pool, "waiting"),
        pool.at("watchdog_age_ms").get<double>() / 1000, pool.at("tier").is_null() ? "-" : clean(pool.at("tier")),
        pool.at("cpu_away").get<bool>() ? ", CPU away" : "");
  }
  return text;
}

std::string latency_columns(const Json& latency) {
  const auto us = [&](const char* key) { return duration(latency.at(key).get<double>()); };
  return fmt::format("{:>9} {:>9} {:>9} {:>9}", us("p50_us"), us("p90_us"), us("p99_us"), us("max_us"));
}

std::string latency_table(const Json& dump) {
  const Json& latencies = dump.at("latencies");
  if (latencies.empty()) return "";
  std::string text = fmt::format(
      "{:<32} {:>9} {:>39}   {:>39}\n{:<32} {:>9} {:>9} {:>9} {:>9} {:>9}   {:>9} {:>9} {:>9} {:>9}\n", "", "",
      "queue -> start", "run", "function", "runs", "p50", "p90", "p99", "max", "p50", "p90", "p99", "max");
  for (const Json& one : latencies) {
    text += fmt::format("{:<32.32} {:>9} {}   {}\n", clean(one.at("function")), number(one.at("run"), "count"),
                        latency_columns(one.at("wait")), latency_columns(one.at("run")));
  }
  return "\n" + text;
}

std::string busy_table(const Json& dump) {
  std::string text;
  for (const Json& pool : dump.at("pools")) {
    for (const Json& worker : pool.at("busy")) {
      const std::string description = clean(worker.at("description"));
      text += fmt::format("{:<16} thread {:<8} pool {:<4} {} of {}{}{}\n", clean(worker.at("name")),
                          worker.at("thread").get<std::int64_t>(), number(pool, "pool"), clean(worker.at("function")),
                          worker.at("workqueue").get<std::string>().empty() ? "a flush" : clean(worker.at("workqueue")),
                          worker.at("sleeping").get<bool>() ? ", asleep" : "",
                          description.empty() ? "" : ": " + description);
    }
  }
  return text.empty() ? "" : "\nBusy workers\n============\n" + text;
}

std::string queue_table(const Json& dump) {
  std::string text = fmt::format("{:<4} {:<24} {:>6} {:>6} {:>4} {:<10} {:<14} {:<12} {}\n", "#", "workqueue", "max",
                                 "min", "nice", "cpumask", "affinity", "pools", "flags");
  for (const Json& queue : dump.at("workqueues")) {
    std::vector<std::string> flags;
    for (const Json& flag : queue.at("flags")) flags.push_back(clean(flag));
    if (queue.at("frozen").get<bool>()) flags.emplace_back("FROZEN");
    if (queue.at("draining").get<bool>()) flags.emplace_back("DRAINING");
    std::vector<std::uint64_t> pools;
    for (const Json& pwq : queue.at("pwqs")) pools.push_back(number(pwq, "pool"));
    const bool unbound = has_flag(queue, "unbound") || has_flag(queue, "ordered");
    const std::string cpumask = clean(queue.at("cpumask"));
    text += fmt::format(
        "{:<4} {:<24.24} {:>6} {:>6} {:>4} {:<10} {:<14} {:<12} {}\n", number(queue, "number"), clean(queue.at("name")),
        queue.at("max_active").get<int>(), unbound ? std::to_string(queue.at("min_active").get<int>()) : "-",
        unbound ? std::to_string(queue.at("nice").get<int>()) : "-",
        !unbound          ? "-"
        : cpumask.empty() ? "all"
                          : cpumask,
        !unbound ? "-" : clean(queue.at("affinity_scope")) + (queue.at("affinity_strict").get<bool>() ? ",strict" : ""),
        fmt::format("{}", fmt::join(pools, ",")), fmt::format("{}", fmt::join(flags, ",")));
  }
  return text;
}

}  // namespace

std::string wq_top_text(const Json& dump) {
  return head(dump) + monitor_table(dump) + "\n" + pool_table(dump, false) + latency_table(dump);
}

std::string wq_dump_text(const Json& dump) {
  std::string text =
      head(dump) + fmt::format("unbound cpumask {}\n\nWorker pools\n============\n", clean(dump.at("unbound_cpumask")));
  text += pool_table(dump, true);
  text += "\nWorkqueues\n==========\n" + queue_table(dump) + "\n" + monitor_table(dump);
  return text + busy_table(dump) + latency_table(dump);
}

}  // namespace upci::tool
