// SPDX-License-Identifier: Apache-2.0
#include "workqueue/cpu_set.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <string_view>

namespace upci::inline UPCI_VARIANT {

namespace {

/// A number at the front of `text`, which is taken off; -1 when there is none.
int take_number(std::string_view& text) {
  int number = -1;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0 || number >= CpuSet::kLimit) return -1;
  text.remove_prefix(static_cast<std::size_t>(rest - text.data()));
  return number;
}

}  // namespace

Result<CpuSet> CpuSet::parse(const std::string& list) {
  CpuSet set;
  std::string_view text = list;
  while (true) {
    const int first = take_number(text);
    int last = first;
    if (first >= 0 && text.starts_with('-')) {
      text.remove_prefix(1);
      last = take_number(text);
    }
    const bool more = text.starts_with(',');
    if (first < 0 || last < first || (!more && !text.empty())) {
      return fail(Errc::kInvalid, fmt::format("'{}' is no list of CPUs", list), "write for example 0-3,8");
    }
    for (int cpu = first; cpu <= last; cpu++) set.add(cpu);
    if (!more) return set;
    text.remove_prefix(1);
  }
}

int CpuSet::count() const noexcept {
  int count = 0;
  for (const std::uint64_t word : words_) count += std::popcount(word);
  return count;
}

std::vector<int> CpuSet::list() const {
  std::vector<int> cpus;
  for (std::size_t i = 0; i < words_.size(); i++) {
    for (std::uint64_t word = words_[i]; word != 0; word &= word - 1) {
      cpus.push_back(static_cast<int>(i * 64) + std::countr_zero(word));
    }
  }
  return cpus;
}

std::string CpuSet::to_string() const {
  std::string text;
  const std::vector<int> cpus = list();
  for (std::size_t i = 0; i < cpus.size(); i++) {
    const std::size_t first = i;
    while (i + 1 < cpus.size() && cpus[i + 1] == cpus[i] + 1) i++;
    if (!text.empty()) text += ',';
    text += first == i ? fmt::format("{}", cpus[i]) : fmt::format("{}-{}", cpus[first], cpus[i]);
  }
  return text;
}

}  // namespace upci::inline UPCI_VARIANT
