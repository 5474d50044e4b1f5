// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace upci::inline UPCI_VARIANT {

/// A set of CPU numbers of a Topology. A value. Kernel: cpumask.
class CpuSet {
 public:
  static constexpr int kLimit = 65536;  // CPU numbers are below this

  CpuSet() = default;
  CpuSet(std::initializer_list<int> cpus) { add_all(std::span(cpus.begin(), cpus.size())); }
  static CpuSet of(std::span<const int> cpus) {
    CpuSet set;
    set.add_all(cpus);
    return set;
  }
  /// "0-3,8", as the kernel writes masks in sysfs. Errors: kInvalid.
  static Result<CpuSet> parse(const std::string& list);

  /// A number outside 0..kLimit-1 is left out.
  void add(int cpu) {
    if (cpu < 0 || cpu >= kLimit) return;
    const auto word = static_cast<std::size_t>(cpu) / 64;
    if (words_.size() <= word) words_.resize(word + 1);
    words_[word] |= std::uint64_t{1} << (cpu % 64);
  }
  bool contains(int cpu) const noexcept {
    const auto word = static_cast<std::size_t>(cpu) / 64;
    return cpu >= 0 && word < words_.size() && ((words_[word] >> (cpu % 64)) & 1) != 0;
  }
  bool empty() const noexcept {
    return std::ranges::all_of(words_, [](std::uint64_t word) { return word == 0; });
  }
  int count() const noexcept;
  /// Ascending.
  std::vector<int> list() const;
  /// "0-3,8".
  std::string to_string() const;

  friend CpuSet operator&(const CpuSet& a, const CpuSet& b) {
    CpuSet both;
    both.words_.resize(std::min(a.words_.size(), b.words_.size()));
    for (std::size_t i = 0; i < both.words_.size(); i++) both.words_[i] = a.words_[i] & b.words_[i];
    both.trim();
    return both;
  }
  friend bool operator==(const CpuSet& a, const CpuSet& b) noexcept = default;

 private:
  void add_all(std::span<const int> cpus) {
    for (const int cpu : cpus) add(cpu);
  }
  // No zero words at the end, so that equal sets compare equal.
  void trim() {
    while (!words_.empty() && words_.back() == 0) words_.pop_back();
  }

  std::vector<std::uint64_t> words_;
};

}  // namespace upci::inline UPCI_VARIANT
