// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/runner/rest.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

namespace upci::inline UPCI_VARIANT::oracle {

namespace {

struct Look {
  bool sleeps = false;
  unsigned long switches = 0;
};

Look look_at(const std::filesystem::path& task, bool uninterruptible) {
  Look found;
  std::ifstream status(task / "status");
  for (std::string line; std::getline(status, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string_view name = std::string_view(line).substr(0, colon);
    if (name == "State") {
      found.sleeps = line.find("\tS", colon) != std::string::npos ||
                     (uninterruptible && line.find("\tD", colon) != std::string::npos);
    } else if (name == "voluntary_ctxt_switches" || name == "nonvoluntary_ctxt_switches") {
      found.switches += std::strtoul(line.c_str() + colon + 1, nullptr, 10);
    }
  }
  return found;
}

}  // namespace

bool Rest::look(const std::set<platform::ThreadId>& spinning) {
  std::map<platform::ThreadId, unsigned long> now;
  std::error_code trouble;  // a thread that ends meanwhile is none
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", trouble)) {
    const auto thread = static_cast<platform::ThreadId>(std::atoi(task.path().filename().c_str()));
    if (thread == platform::this_thread::id() || spinning.contains(thread)) continue;
    const Look found = look_at(task.path(), uninterruptible_);
    if (!found.sleeps) {
      slept_.clear();
      return false;
    }
    now.emplace(thread, found.switches);
  }
  const bool rested = now == slept_;
  slept_ = std::move(now);
  return rested;
}

}  // namespace upci::inline UPCI_VARIANT::oracle
