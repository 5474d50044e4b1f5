// SPDX-License-Identifier: Apache-2.0
// The clauses of the specification that bind a driver, section by section, and what holds this driver to each of them.
// docs/virtio-clauses.md is written from this table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/variant.h"
#include "virtio/lint/rules.h"
#include "virtio/packed_lint.h"
#include "virtio/ring_lint.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

/// The text that the table was written from.
inline constexpr std::string_view kSpecification = "virtio 1.4, committee specification 01";
inline constexpr std::string_view kSpecificationCommit = "15f488c162107f7b52fb2e4d0f36a2349fe9d3a9";

enum class Observer : std::uint8_t { kNone, kSplitRing, kPackedRing, kRegisters, kChains };
std::string_view to_string(Observer observer) noexcept;

/// A rule of one of the observers. A value.
struct RuleRef {
  Observer observer = Observer::kNone;
  std::uint8_t number = 0;

  constexpr RuleRef() = default;
  constexpr RuleRef(RingClause rule) noexcept  // NOLINT: the tables are lists of rules
      : observer(Observer::kSplitRing), number(static_cast<std::uint8_t>(rule)) {}
  constexpr RuleRef(PackedClause rule) noexcept  // NOLINT
      : observer(Observer::kPackedRing), number(static_cast<std::uint8_t>(rule)) {}
  constexpr RuleRef(RegisterRule rule) noexcept  // NOLINT
      : observer(Observer::kRegisters), number(static_cast<std::uint8_t>(rule)) {}
  constexpr RuleRef(ChainRule rule) noexcept  // NOLINT
      : observer(Observer::kChains), number(static_cast<std::uint8_t>(rule)) {}
  constexpr RuleRef(Observer which, std::size_t rule) noexcept
      : observer(which), number(static_cast<std::uint8_t>(rule)) {}
  friend bool operator==(const RuleRef&, const RuleRef&) = default;
};
/// How many rules an observer has, and what one looks for.
std::size_t rule_count(Observer observer) noexcept;
std::string_view text_of(RuleRef rule) noexcept;

enum class How : std::uint8_t {
  kObserved,  // an observer watches the driver: in every data-path test, and wherever one is attached
  kTested,    // a test of its own
  kUnused,    // it is about something that this driver never does or accepts
  kUnchecked  // nobody looks
};
std::string_view to_string(How how) noexcept;

struct Clause {
  std::uint8_t musts = 1;  // how many times the section says MUST for it
  std::string_view says;   // in our words
  How how = How::kUnchecked;
  std::array<RuleRef, 4> rules{};  // kObserved: unused ones have no observer
  std::string_view by;             // kTested: "file: name" of tests, with commas between; else a remark or the reason
};

/// One section's clauses for drivers.
struct Section {
  std::string_view key;    // of the ids: "status" makes status.1, status.2, ...
  std::string_view label;  // in the specification's source
  std::uint8_t musts = 0;  // as counted there
  std::span<const Clause> clauses;
};

std::span<const Section> basic_sections() noexcept;
std::span<const Section> ring_sections() noexcept;
std::span<const Section> pci_sections() noexcept;
std::span<const Section> net_sections() noexcept;
std::span<const Section> net_control_sections() noexcept;
std::span<const Section> block_sections() noexcept;
/// All of these, in the specification's order.
std::span<const std::span<const Section>> all_sections() noexcept;

/// The id of the first clause that a rule stands for, such as "status.2"; "extra" when it stands for none.
std::string clause_id(RuleRef rule);

/// What the tables are made of.
namespace table {
template <class... Rules>
constexpr Clause seen(std::uint8_t musts, std::string_view says, Rules... rules) noexcept {
  return {.musts = musts, .says = says, .how = How::kObserved, .rules = {RuleRef(rules)...}, .by = {}};
}
constexpr Clause tested(std::uint8_t musts, std::string_view says, std::string_view by) noexcept {
  return {.musts = musts, .says = says, .how = How::kTested, .rules = {}, .by = by};
}
constexpr Clause unused(std::uint8_t musts, std::string_view says, std::string_view why) noexcept {
  return {.musts = musts, .says = says, .how = How::kUnused, .rules = {}, .by = why};
}
constexpr Clause unchecked(std::uint8_t musts, std::string_view says, std::string_view why) noexcept {
  return {.musts = musts, .says = says, .how = How::kUnchecked, .rules = {}, .by = why};
}
}  // namespace table

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
