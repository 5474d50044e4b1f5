// SPDX-License-Identifier: Apache-2.0
#include "virtio/lint/clauses.h"

#include <algorithm>

namespace upci::inline UPCI_VARIANT::virtio::lint {

std::string_view to_string(Observer observer) noexcept {
  switch (observer) {
    case Observer::kNone: return "none";
    case Observer::kSplitRing: return "split ring";
    case Observer::kPackedRing: return "packed ring";
    case Observer::kRegisters: return "registers";
    case Observer::kChains: return "buffers";
  }
  return "unknown";
}

std::size_t rule_count(Observer observer) noexcept {
  switch (observer) {
    case Observer::kNone: return 0;
    case Observer::kSplitRing: return kRingClauses;
    case Observer::kPackedRing: return kPackedClauses;
    case Observer::kRegisters: return kRegisterRules;
    case Observer::kChains: return kChainRules;
  }
  return 0;
}

std::string_view text_of(RuleRef rule) noexcept {
  switch (rule.observer) {
    case Observer::kNone: return "none";
    case Observer::kSplitRing: return virtio::to_string(static_cast<RingClause>(rule.number));
    case Observer::kPackedRing: return virtio::to_string(static_cast<PackedClause>(rule.number));
    case Observer::kRegisters: return to_string(static_cast<RegisterRule>(rule.number));
    case Observer::kChains: return to_string(static_cast<ChainRule>(rule.number));
  }
  return "unknown";
}

std::string_view to_string(How how) noexcept {
  switch (how) {
    case How::kObserved: return "observed";
    case How::kTested: return "tested";
    case How::kUnused: return "not used";
    case How::kUnchecked: return "not checked";
  }
  return "unknown";
}

std::span<const std::span<const Section>> all_sections() noexcept {
  static const std::array parts = {basic_sections(), ring_sections(),        pci_sections(),
                                   net_sections(),   net_control_sections(), block_sections()};
  return parts;
}

std::string clause_id(RuleRef rule) {
  for (const auto& part : all_sections()) {
    for (const Section& section : part) {
      for (std::size_t i = 0; i < section.clauses.size(); ++i) {
        if (std::ranges::find(section.clauses[i].rules, rule) == section.clauses[i].rules.end()) continue;
        return std::string(section.key) + "." + std::to_string(i + 1);
      }
    }
  }
  return "extra";
}

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
