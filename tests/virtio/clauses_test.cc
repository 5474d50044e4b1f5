// SPDX-License-Identifier: Apache-2.0
// The table of clauses is complete in itself, names tests that exist, and is what docs/virtio-clauses.md says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "tests/virtio/clauses_doc.h"
#include "virtio/lint/clauses.h"

namespace upci::virtio_tests {
namespace {

namespace lint = virtio::lint;
using lint::How;

std::string source_path(const std::string& name) {
  const char* const root = std::getenv("UPCI_SOURCE_DIR");
  return (root != nullptr ? std::string(root) : std::string(".")) + "/" + name;
}

std::string text_of_file(const std::string& path) {
  const std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

template <class F>
void for_each_section(F body) {
  for (const auto& part : lint::all_sections()) {
    for (const lint::Section& section : part) body(section);
  }
}

TEST(Clauses, OfASectionAddUpToWhatTheSpecificationCounts) {
  for_each_section([](const lint::Section& section) {
    unsigned musts = 0;
    for (const lint::Clause& clause : section.clauses) musts += clause.musts;
    EXPECT_EQ(musts, section.musts) << section.label;
  });
}

TEST(Clauses, OfEachSectionHaveIdsOfTheirOwn) {
  std::set<std::string_view> keys;
  std::set<std::string_view> labels;
  for_each_section([&](const lint::Section& section) {
    EXPECT_TRUE(keys.insert(section.key).second) << section.key;
    EXPECT_TRUE(labels.insert(section.label).second) << section.label;
  });
}

TEST(Clauses, SayWhoChecksThem) {
  for_each_section([](const lint::Section& section) {
    for (const lint::Clause& clause : section.clauses) {
      const bool has_rule = clause.rules[0].observer != lint::Observer::kNone;
      EXPECT_EQ(has_rule, clause.how == How::kObserved) << clause.says;
      EXPECT_EQ(clause.by.empty(), clause.how == How::kObserved) << clause.says;
    }
  });
}

/// "file: name, file: name"
TEST(Clauses, NameTestsThatExist) {
  for_each_section([](const lint::Section& section) {
    for (const lint::Clause& clause : section.clauses) {
      if (clause.how != How::kTested) continue;
      std::stringstream list{std::string(clause.by)};
      for (std::string one; std::getline(list, one, ',');) {
        const std::size_t begin = one.find_first_not_of(' ');
        const std::size_t colon = one.find(": ");
        ASSERT_NE(colon, std::string::npos) << one;
        const std::string text = text_of_file(source_path(one.substr(begin, colon - begin)));
        EXPECT_NE(text.find(", " + one.substr(colon + 2) + ")"), std::string::npos) << one;
      }
    }
  });
}

/// A ring's rule may be stricter than the specification; one of the others that stands for no clause would be an invention.
TEST(Clauses, StandBehindEachRuleOfRegistersAndBuffers) {
  for (const lint::Observer observer : {lint::Observer::kRegisters, lint::Observer::kChains}) {
    for (std::size_t i = 0; i < lint::rule_count(observer); ++i) {
      EXPECT_NE(clause_id(lint::RuleRef(observer, i)), "extra") << text_of(lint::RuleRef(observer, i));
    }
  }
}

TEST(Clauses, AreWhatTheDocumentSays) {
  const std::string path = source_path("docs/virtio-clauses.md");
  if (std::getenv("UPCI_WRITE") != nullptr) std::ofstream(path) << clauses_document();
  EXPECT_EQ(text_of_file(path), clauses_document()) << "run this test again with UPCI_WRITE=1";
}

}  // namespace
}  // namespace upci::virtio_tests
