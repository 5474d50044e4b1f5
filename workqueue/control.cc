// SPDX-License-Identifier: Apache-2.0
#include "workqueue/control.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <set>

namespace upci::inline UPCI_VARIANT {

namespace {

Result<int> parse_number(std::string_view key, std::string_view text, int low, int high) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) {
    return fail(Errc::kInvalid, fmt::format("{}={}: not a number from {} to {}", key, text, low, high));
  }
  return value;
}

}  // namespace

std::vector<std::string> control_directories() {
  std::vector<std::string> directories;
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/') directories.push_back(fmt::format("{}/upci", runtime));
  if (::geteuid() == 0) directories.emplace_back("/run/upci");
  directories.push_back(fmt::format("/tmp/upci-{}", ::geteuid()));
  return directories;
}

Result<ControlChange> parse_control_change(std::span<const std::string> pairs) {
  constexpr const char* kKeys = "the keys are max_active, min_active, nice, cpumask, affinity_scope, affinity_strict";
  ControlChange change;
  std::set<std::string, std::less<>> seen;
  if (pairs.empty()) return fail(Errc::kInvalid, "nothing to change was given", kKeys);
  for (const std::string& pair : pairs) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos) { return fail(Errc::kInvalid, fmt::format("'{}' is not KEY=VALUE", pair), kKeys); }
    const std::string key = pair.substr(0, equals);
    const std::string value = pair.substr(equals + 1);
    if (!seen.insert(key).second) return fail(Errc::kInvalid, fmt::format("{} is given twice", key));
    if (key == "max_active") {
      UPCI_TRY_ASSIGN(change.max_active, parse_number(key, value, 1, kWqMaxActive));
    } else if (key == "min_active") {
      UPCI_TRY_ASSIGN(change.min_active, parse_number(key, value, 1, kWqMaxActive));
    } else if (key == "nice") {
      UPCI_TRY_ASSIGN(change.nice, parse_number(key, value, -20, 19));
    } else if (key == "cpumask") {
      UPCI_TRY_ASSIGN(CpuSet cpus, CpuSet::parse(value));
      if (cpus.empty()) return fail(Errc::kInvalid, fmt::format("cpumask={}: names no CPU", value));
      change.cpumask = std::move(cpus);
    } else if (key == "affinity_scope") {
      UPCI_TRY_ASSIGN(change.scope, parse_affinity_scope(value));
    } else if (key == "affinity_strict") {
      UPCI_TRY_ASSIGN(const int strict, parse_number(key, value, 0, 1));
      change.strict = strict == 1;
    } else {
      return fail(Errc::kInvalid, fmt::format("there is no key '{}'", key), kKeys);
    }
  }
  return change;
}

}  // namespace upci::inline UPCI_VARIANT
