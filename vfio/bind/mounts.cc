// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/mounts.h"

#include <algorithm>
#include <sstream>

namespace upci::inline UPCI_VARIANT::vfio::bind {

std::string unescaped(std::string_view name) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string result;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '\\' && i + 3 < name.size() && octal(name[i + 1]) && octal(name[i + 2]) && octal(name[i + 3])) {
      result += static_cast<char>((name[i + 1] - '0') * 64 + (name[i + 2] - '0') * 8 + (name[i + 3] - '0'));
      i += 3;
    } else {
      result += name[i];
    }
  }
  return result;
}

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) {
    std::istringstream words(line);
    std::vector<std::string> fields;
    for (std::string word; words >> word;) fields.push_back(word);
    // id parent major:minor root mount-point options [optional ...] - type source super-options
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 6 || fields.end() - dash < 3) continue;
    mounts.push_back({fields[2], unescaped(fields[4]), dash[1], unescaped(dash[2])});
  }
  return mounts;
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
