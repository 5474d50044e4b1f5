// SPDX-License-Identifier: Apache-2.0
// The lint of packed rings finds each breach of what binds a driver.
#include <gtest/gtest.h>

#include "virtio/packed_lint.h"

namespace upci::virtio_tests {
namespace {

using virtio::PackedClause;
using virtio::PackedLint;
namespace packed = virtio::spec::packed;

class PackedLintTest : public testing::Test {
 protected:
  static constexpr std::uint16_t kAvail = packed::kDescAvail;  // of the first lap
  /// A chain of one descriptor, and its publication.
  void send(std::uint16_t index, std::uint16_t id, std::uint16_t flags = kAvail) {
    lint.on_write_body(index, 0x1000, 10, id);
    lint.on_write_flags(index, flags, true);
  }
  void table(std::uint16_t flags, std::uint32_t len = sizeof(packed::Descriptor)) {
    lint.on_write_table_entry(0, 0, {.addr = 1, .len = 1, .id = 0, .flags = flags});
    lint.on_write_body(0, 0x1000, len, 0);
    lint.on_write_flags(0, kAvail | packed::kDescIndirect, true);
  }
  void expect_only(PackedClause clause) {
    EXPECT_EQ(lint.violations(clause), 1U) << to_string(clause);
    EXPECT_EQ(lint.violations(), 1U);
  }
  PackedLint lint{4, virtio::RingOptions{.legacy = false, .event_idx = false, .in_order = false, .indirect = true}};
};

TEST_F(PackedLintTest, ProperChainsThroughTwoLapsAreNoViolation) {
  for (std::uint16_t i = 0; i < 8; ++i) {
    send(i % 4, 1, packed::available_marks(i < 4));
    lint.on_read_used(i % 4, {.id = 1, .len = 5});
  }
  lint.on_write_driver_event({.offset_wrap = 0, .flags = packed::kEventDisable});
  EXPECT_EQ(lint.violations(), 0U);
  EXPECT_EQ(lint.accesses(), 25U);
}

TEST_F(PackedLintTest, FindsWhatIsBeyondTheRing) {
  lint.on_write_body(4, 0, 0, 0);
  EXPECT_EQ(lint.violations(PackedClause::kOutOfRange), 1U);
  lint.on_write_body(0, 0, 0, 4);
  EXPECT_EQ(lint.violations(PackedClause::kOutOfRange), 2U);
}

TEST_F(PackedLintTest, FindsAChangedDescriptorInFlight) {
  for (std::uint16_t i = 0; i < 4; ++i) send(i, i);
  lint.on_write_body(0, 0x1000, 10, 0);
  EXPECT_EQ(lint.violations(PackedClause::kDescriptorInFlight), 1U);
}

TEST_F(PackedLintTest, FindsADescriptorOutOfTurn) {
  send(1, 0);
  expect_only(PackedClause::kOutOfTurn);
}

TEST_F(PackedLintTest, FindsAGapInWhatIsPublished) {
  lint.on_write_body(2, 0x1000, 10, 1);
  lint.on_write_flags(2, kAvail, false);
  send(0, 0);
  expect_only(PackedClause::kOutOfTurn);
}

TEST_F(PackedLintTest, WhatIsPublishedAtOnceMayBeWrittenInAnyOrder) {
  for (std::uint16_t i = 0; i < 3; ++i) {
    send(i, i);
    lint.on_read_used(i, {.id = i, .len = 0});
  }
  lint.on_write_body(0, 0x1000, 10, 1);  // of the second lap
  lint.on_write_flags(0, packed::kDescUsed, false);
  send(3, 0);
  EXPECT_EQ(lint.violations(), 0U);
}

TEST_F(PackedLintTest, FindsMarksOfTheWrongLap) {
  send(0, 0, packed::kDescUsed);
  expect_only(PackedClause::kMarksWrong);
}

TEST_F(PackedLintTest, FindsAnIdThatIsGivenTwice) {
  send(0, 2);
  send(1, 2);
  expect_only(PackedClause::kIdInFlight);
}

TEST_F(PackedLintTest, FindsAnIdThatChangesWithinAChain) {
  lint.on_write_body(0, 0x1000, 10, 0);
  lint.on_write_body(1, 0x1000, 10, 1);
  lint.on_write_flags(1, kAvail, false);
  lint.on_write_flags(0, kAvail | packed::kDescNext, true);
  expect_only(PackedClause::kIdChanges);
}

TEST_F(PackedLintTest, FindsAReadableSegmentBehindAWritableOne) {
  lint.on_write_body(0, 0x1000, 10, 0);
  lint.on_write_body(1, 0x1000, 10, 0);
  lint.on_write_flags(1, kAvail, false);
  lint.on_write_flags(0, kAvail | packed::kDescNext | packed::kDescWrite, true);
  expect_only(PackedClause::kWritableFirst);
}

TEST_F(PackedLintTest, FindsAChainWithoutItsEnd) {
  send(0, 0, kAvail | packed::kDescNext);
  expect_only(PackedClause::kChainUnended);
}

TEST_F(PackedLintTest, FindsMalformedTables) {
  table(packed::kDescNext);
  expect_only(PackedClause::kTableMalformed);
}

TEST_F(PackedLintTest, FindsATableOfNoWholeEntries) {
  table(0, 17);
  expect_only(PackedClause::kTableMalformed);
}

TEST_F(PackedLintTest, FindsAChangedTableInFlight) {
  table(0);
  lint.on_write_table_entry(0, 0, {.addr = 2, .len = 1, .id = 0, .flags = 0});
  expect_only(PackedClause::kTableInFlight);
}

TEST_F(PackedLintTest, FindsEventFlagsThatWereNotNegotiated) {
  lint.on_write_driver_event({.offset_wrap = 0, .flags = packed::kEventDescriptor});
  expect_only(PackedClause::kEventFlags);
  lint.on_write_driver_event({.offset_wrap = 0, .flags = 3});
  EXPECT_EQ(lint.violations(PackedClause::kEventFlags), 2U);
}

}  // namespace
}  // namespace upci::virtio_tests
