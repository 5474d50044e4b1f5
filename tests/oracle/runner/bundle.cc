// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/runner/bundle.h"

#include <filesystem>
#include <fstream>

namespace upci::inline UPCI_VARIANT::oracle {

std::string Entry::text() const {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

Result<std::vector<Entry>> read_bundle(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail_errno("cannot read " + path);
  std::vector<Entry> entries;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("#")) continue;  // a reason, or a remark
    if (line.starts_with("=== ")) {
      entries.push_back({line.substr(4), {}});
      continue;
    }
    if (entries.empty()) entries.push_back({std::filesystem::path(path).stem().string(), {}});
    entries.back().lines.push_back(std::move(line));
  }
  return entries;
}

Result<void> write_bundle(const std::string& path, const std::vector<Entry>& entries) {
  std::ofstream file(path);
  for (const Entry& entry : entries) file << "=== " << entry.name << "\n" << entry.text();
  file.close();
  if (!file) return fail_errno("cannot write " + path);
  return {};
}

}  // namespace upci::inline UPCI_VARIANT::oracle
