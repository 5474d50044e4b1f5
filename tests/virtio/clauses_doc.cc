// SPDX-License-Identifier: Apache-2.0
#include "tests/virtio/clauses_doc.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "virtio/lint/clauses.h"

namespace upci::virtio_tests {
namespace {

namespace lint = virtio::lint;
using lint::How;

struct Counts {
  std::array<unsigned, 4> by_how{};
  unsigned all = 0;

  void add(const lint::Section& section) {
    for (const lint::Clause& clause : section.clauses) {
      by_how[static_cast<std::size_t>(clause.how)] += clause.musts;
      all += clause.musts;
    }
  }
};

std::string row(std::string_view name, const Counts& counts) {
  std::string text = fmt::format("| {} | {} |", name, counts.all);
  for (const unsigned one : counts.by_how) text += fmt::format(" {} |", one);
  return text + "\n";
}

std::string checked_by(const lint::Clause& clause) {
  if (clause.how != How::kObserved) return std::string(clause.by);
  std::string text;
  for (const lint::RuleRef& rule : clause.rules) {
    if (rule.observer == lint::Observer::kNone) continue;
    if (!text.empty()) text += "; ";
    text += fmt::format("{}: {}", to_string(rule.observer), text_of(rule));
  }
  return text;
}

/// What the observers of rings look for beyond the clauses: what a ring that keeps them cannot do either.
std::string extra_rules() {
  std::string text;
  for (const lint::Observer observer : {lint::Observer::kSplitRing, lint::Observer::kPackedRing}) {
    for (std::size_t i = 0; i < lint::rule_count(observer); ++i) {
      const lint::RuleRef rule(observer, i);
      if (clause_id(rule) == "extra") text += fmt::format("- {}: {}\n", to_string(observer), text_of(rule));
    }
  }
  return text;
}

constexpr std::array<std::string_view, 6> kParts = {
    "Basic facilities",         "Rings", "Virtio over PCI", "Network device", "Network device: control queue",
    "Block and entropy devices"};

}  // namespace

std::string clauses_document() {
  Counts all;
  std::string summary;
  std::string details;
  const auto parts = lint::all_sections();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Counts part;
    details += fmt::format("\n## {}\n", kParts.at(i));
    for (const lint::Section& section : parts[i]) {
      part.add(section);
      all.add(section);
      details += fmt::format(
          "\n### {}\n{} MUST in `{}`\n\n| id | MUSTs | the driver's part | how | by |\n| --- | --- | --- | --- | --- "
          "|\n",
          section.key, section.musts, section.label);
      for (std::size_t n = 0; n < section.clauses.size(); ++n) {
        const lint::Clause& clause = section.clauses[n];
        details += fmt::format("| {}.{} | {} | {} | {} | {} |\n", section.key, n + 1, clause.musts, clause.says,
                               to_string(clause.how), checked_by(clause));
      }
    }
    summary += row(kParts.at(i), part);
  }
  summary += row("all", all);
  return fmt::format(
      R"(<!-- Written by tests/virtio/clauses_test.cc from virtio/lint/clauses_*.cc. Not to be edited: see below. -->
# What the specification demands of a driver, and who checks it

This is written from the table in `virtio/lint/clauses_*.cc`; a test fails when it is out of date.
`UPCI_WRITE=1 build/tests/virtio_lint_test --gtest_filter='Clauses.*'`, with `UPCI_SOURCE_DIR` set, writes it again.

The table was made from the text of {} (commit {} of its sources). Its sections are the
driver requirements of the basic facilities, of virtio over PCI, and of the network, block and entropy devices, and what the sections
about the legacy interface say that a driver MUST do. That none is missing was looked at by hand when it was written: each section's
count of the word MUST is in the table, and a test demands that the clauses below it add up to that.

- **observed**: an observer watches the driver. *Split ring* and *packed ring* (`virtio/ring_lint.h`, `virtio/packed_lint.h`) see each
  access of a ring, where `BindOptions::observed` is set; *buffers* (`virtio/lint/chain_lint.h`) sees the bytes that a chain
  carries before it becomes available; *registers* (`virtio/lint/register_lint.h`) sees what reaches the BARs, always in the tests of
  the drivers. A breach fails the test that it happened in. For each rule `virtio_lint_test` has a breach that it must find.
- **tested**: a test of its own shows it.
- **not used**: it is about something that the drivers never do or accept.
- **not checked**: nobody looks, and why.

What a device does wrong is counted apart (`lint::DeviceRule`) and reported, and fails no test.

| part | MUSTs | observed | tested | not used | not checked |
| --- | --- | --- | --- | --- | --- |
{}{}
## Rules of the rings without a clause
These are breaches, too, reported as `extra`: they follow from how the rings work, not from a MUST.

{})",
      lint::kSpecification, lint::kSpecificationCommit, summary, details, extra_rules());
}

}  // namespace upci::virtio_tests
