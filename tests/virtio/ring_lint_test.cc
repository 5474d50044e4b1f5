// SPDX-License-Identifier: Apache-2.0
// The lint finds each breach of what binds a driver; so that its silence in the other tests means something.
#include <gtest/gtest.h>

#include "virtio/ring_lint.h"

namespace upci::virtio_tests {
namespace {

using virtio::RingClause;
using virtio::RingLint;
namespace ring = virtio::spec::ring;

constexpr ring::Descriptor kRead{.addr = 0x1000, .len = 10, .flags = 0, .next = 0};
constexpr ring::Descriptor kWrite{.addr = 0x1000, .len = 10, .flags = ring::kDescWrite, .next = 0};
ring::Descriptor linked(ring::Descriptor descriptor, std::uint16_t next) {
  descriptor.flags = static_cast<std::uint16_t>(descriptor.flags | ring::kDescNext);
  descriptor.next = next;
  return descriptor;
}

class RingLintTest : public testing::Test {
 protected:
  void expect_only(RingClause clause) {
    EXPECT_EQ(lint.violations(clause), 1U) << to_string(clause);
    EXPECT_EQ(lint.violations(), 1U);
  }
  RingLint lint{4};
};

TEST_F(RingLintTest, AProperChainIsNoViolation) {
  lint.on_write_descriptor(0, linked(kRead, 1));
  lint.on_write_descriptor(1, kWrite);
  lint.on_write_avail_entry(0, 0);
  lint.on_publish_avail_index(1);
  EXPECT_EQ(lint.on_read_used_index(1), 1);
  lint.on_read_used_element(0, {.id = 0, .len = 5});
  lint.on_write_descriptor(1, kRead);
  EXPECT_EQ(lint.violations(), 0U);
  EXPECT_EQ(lint.accesses(), 7U);
}

TEST_F(RingLintTest, FindsAChangedDescriptorInFlight) {
  lint.on_write_descriptor(0, linked(kRead, 1));
  lint.on_write_descriptor(1, kRead);
  lint.on_write_avail_entry(0, 0);
  lint.on_publish_avail_index(1);
  lint.on_write_descriptor(1, kRead);
  expect_only(RingClause::kDescriptorInFlight);
}

TEST_F(RingLintTest, FindsALoop) {
  lint.on_write_descriptor(0, linked(kRead, 1));
  lint.on_write_descriptor(1, linked(kRead, 0));
  lint.on_write_avail_entry(0, 0);
  lint.on_publish_avail_index(1);
  expect_only(RingClause::kDescriptorLoop);
}

TEST_F(RingLintTest, FindsAChainThatLeavesTheTable) {
  lint.on_write_descriptor(0, linked(kRead, 4));
  lint.on_write_avail_entry(0, 0);
  lint.on_publish_avail_index(1);
  expect_only(RingClause::kDescriptorLoop);
}

TEST_F(RingLintTest, FindsAReadableSegmentBehindAWritableOne) {
  lint.on_write_descriptor(0, linked(kWrite, 1));
  lint.on_write_descriptor(1, kRead);
  lint.on_write_avail_entry(0, 0);
  lint.on_publish_avail_index(1);
  expect_only(RingClause::kWritableFirst);
}

TEST_F(RingLintTest, FindsAHeadBeyondTheTable) {
  lint.on_write_avail_entry(0, 4);
  expect_only(RingClause::kHeadOutOfRange);
}

TEST_F(RingLintTest, FindsAChainThatIsMadeAvailableTwice) {
  lint.on_write_descriptor(0, kRead);
  lint.on_write_avail_entry(0, 0);
  lint.on_publish_avail_index(1);
  lint.on_write_avail_entry(1, 0);
  lint.on_publish_avail_index(2);
  expect_only(RingClause::kHeadInFlight);
}

TEST_F(RingLintTest, FindsAnIndexThatGoesBack) {
  lint.on_write_descriptor(0, kRead);
  lint.on_write_avail_entry(0, 0);
  lint.on_publish_avail_index(1);
  lint.on_publish_avail_index(0);
  expect_only(RingClause::kIndexJump);
}

TEST_F(RingLintTest, FindsAnEntryThatWasPublishedButNotWritten) {
  lint.on_publish_avail_index(1);
  expect_only(RingClause::kIndexUnwritten);
}

TEST_F(RingLintTest, AnEntryMayStayAsItIsIfItSaysSo) {
  for (std::uint16_t i = 0; i < 8; ++i) {
    if (i == 0) lint.on_write_descriptor(0, kRead);
    lint.on_keep_avail_entry(i, 0);  // zeroed memory
    lint.on_publish_avail_index(static_cast<std::uint16_t>(i + 1));
    lint.on_read_used_element(i, {.id = 0, .len = 0});
  }
  EXPECT_EQ(lint.violations(), 0U);
}

TEST_F(RingLintTest, FindsAnEntryThatIsKeptThoughItSaysSomethingElse) {
  lint.on_write_descriptor(1, kRead);
  lint.on_keep_avail_entry(0, 1);
  expect_only(RingClause::kIndexUnwritten);
}

TEST_F(RingLintTest, FindsAnEntryThatIsOverwrittenWhileTheDeviceMayReadIt) {
  for (std::uint16_t i = 0; i < 4; ++i) {
    lint.on_write_descriptor(i, kRead);
    lint.on_write_avail_entry(i, i);
  }
  lint.on_publish_avail_index(4);
  lint.on_write_avail_entry(4, 0);
  expect_only(RingClause::kEntryInFlight);
}

}  // namespace
}  // namespace upci::virtio_tests
