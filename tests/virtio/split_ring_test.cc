// SPDX-License-Identifier: Apache-2.0
// The driver's side of a split ring with a device that keeps the rules.
#include "tests/virtio/ring_fixture.h"

namespace upci::virtio_tests {
namespace {

template <class Access>
class SplitRingTest : public RingTest<Access> {};
TYPED_TEST_SUITE(SplitRingTest, Policies, PolicyNames);

TYPED_TEST(SplitRingTest, NothingIsAvailableBeforePublish) {
  ASSERT_TRUE(this->add_readable(this->cookie(0)));
  EXPECT_EQ(this->device->avail_index(), 0);
  EXPECT_TRUE(this->queue->publish());
  EXPECT_EQ(this->device->avail_index(), 1);
}

TYPED_TEST(SplitRingTest, ADescriptorSaysWhereHowLongAndWhichWay) {
  ASSERT_TRUE(this->add_readable(this->cookie(0), 60));
  ASSERT_TRUE(this->add_writable(this->cookie(1), 1526));
  this->queue->publish();
  const ring::Descriptor out = this->device->descriptor(this->device->avail_entry(0));
  EXPECT_EQ(out.addr, 0x1000U);
  EXPECT_EQ(out.len, 60U);
  EXPECT_EQ(out.flags, 0);
  const ring::Descriptor in = this->device->descriptor(this->device->avail_entry(1));
  EXPECT_EQ(in.addr, 0x2000U);
  EXPECT_EQ(in.len, 1526U);
  EXPECT_EQ(in.flags, ring::kDescWrite);
}

TYPED_TEST(SplitRingTest, AChainIsLinkedInOrder) {
  const virtio::Segment chain[] = {
      {.iova = 0x10, .len = 1}, {.iova = 0x20, .len = 2}, {.iova = 0x30, .len = 3, .device_writes = true}};
  ASSERT_TRUE(this->queue->add(chain, this->cookie(0)));
  this->queue->publish();
  const ring::Descriptor first = this->device->descriptor(this->device->take());
  const ring::Descriptor second = this->device->descriptor(first.next);
  const ring::Descriptor third = this->device->descriptor(second.next);
  EXPECT_EQ(first.addr, 0x10U);
  EXPECT_EQ(first.flags, ring::kDescNext);
  EXPECT_EQ(second.addr, 0x20U);
  EXPECT_EQ(second.flags, ring::kDescNext);
  EXPECT_EQ(third.addr, 0x30U);
  EXPECT_EQ(third.flags, ring::kDescWrite);
  EXPECT_EQ(this->queue->room(), this->kSize - 3);
}

TYPED_TEST(SplitRingTest, UsedChainsComeBackWithTheirCookiesInTheDevicesOrder) {
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(this->add_writable(this->cookie(i)));
  this->queue->publish();
  const std::uint16_t heads[] = {this->device->take(), this->device->take(), this->device->take()};
  this->device->use(heads[2], 10);
  this->device->use(heads[0], 20);
  EXPECT_EQ(this->poll(), (std::vector<typename TestFixture::Taken>{{this->cookie(2), 10}, {this->cookie(0), 20}}));
  EXPECT_EQ(this->queue->in_flight(), 1);
  this->device->use(heads[1], 30);
  EXPECT_EQ(this->poll(), (std::vector<typename TestFixture::Taken>{{this->cookie(1), 30}}));
  EXPECT_EQ(this->queue->room(), this->kSize);
}

TYPED_TEST(SplitRingTest, AFullRingTakesNoMoreUntilSomethingIsUsed) {
  for (std::size_t i = 0; i < this->kSize; ++i) ASSERT_TRUE(this->add_readable(this->cookie(i)));
  EXPECT_FALSE(this->add_readable(this->cookie(20)));
  this->queue->publish();
  this->device->use(this->device->take(), 0);
  EXPECT_FALSE(this->add_readable(this->cookie(20)));
  EXPECT_EQ(this->poll().size(), 1U);
  EXPECT_TRUE(this->add_readable(this->cookie(20)));
}

TYPED_TEST(SplitRingTest, AChainLongerThanTheRoomIsRefusedWhole) {
  for (std::size_t i = 0; i + 1 < this->kSize; ++i) ASSERT_TRUE(this->add_readable(this->cookie(i)));
  const virtio::Segment chain[2] = {{.iova = 1, .len = 1}, {.iova = 2, .len = 2}};
  EXPECT_FALSE(this->queue->add(chain, this->cookie(30)));
  EXPECT_EQ(this->queue->room(), 1);
  EXPECT_FALSE(this->queue->add({}, this->cookie(30)));
}

TYPED_TEST(SplitRingTest, IndicesWrapAround) {
  // More than 2^16 chains, so that the indices wrap and every entry is used again and again.
  for (std::uint32_t round = 0; round < 70'000; ++round) {
    ASSERT_TRUE(this->add_readable(this->cookie(round % 8)));
    this->queue->publish();
    this->device->use(this->device->take(), 0);
    std::size_t taken =
        this->queue->poll(8, [&](void* cookie, std::uint32_t) { ASSERT_EQ(cookie, this->cookie(round % 8)); });
    ASSERT_EQ(taken, 1U) << round;
  }
}

TYPED_TEST(SplitRingTest, ChainsOfManyLengthsNeverLoseADescriptor) {
  std::uint32_t random = 12345;
  std::vector<std::uint16_t> outstanding;
  for (int round = 0; round < 20'000; ++round) {
    random = random * 1'664'525U + 1'013'904'223U;
    const std::size_t length = 1 + (random >> 16) % 3;
    std::vector<virtio::Segment> chain(length, {.iova = 0x100, .len = 8, .device_writes = true});
    if (this->queue->add(chain, this->cookie(1))) {
      this->queue->publish();
      outstanding.push_back(this->device->take());
    } else {
      const std::size_t at = (random >> 8) % outstanding.size();
      this->device->use(outstanding[at], 8);
      outstanding.erase(outstanding.begin() + static_cast<std::ptrdiff_t>(at));
      ASSERT_EQ(this->poll().size(), 1U);
    }
  }
  while (!outstanding.empty()) {
    this->device->use(outstanding.back(), 8);
    outstanding.pop_back();
  }
  this->poll();
  EXPECT_EQ(this->queue->room(), this->kSize);
  EXPECT_EQ(this->queue->in_flight(), 0);
}

// A write would take the cache line from the device's CPU.
TYPED_TEST(SplitRingTest, WhatStandsThereFromTheLastTimeAroundIsNotWrittenAgain) {
  const auto lap = [this](std::uint64_t iova) {
    for (std::uint16_t i = 0; i < this->kSize; ++i) {
      ASSERT_TRUE(this->queue->add_one({.iova = iova + i, .len = 100, .device_writes = true}, this->cookie(i)));
      this->queue->publish();
      this->device->use(this->device->take(), 1);
      ASSERT_EQ(this->poll().size(), 1U);
    }
  };
  lap(0x1000);
  std::memset(this->memory, 0xaa, this->layout.avail);  // the descriptors
  lap(0x1000);
  for (std::size_t i = 0; i < this->layout.avail; ++i) ASSERT_EQ(this->memory[i], std::byte{0xaa}) << i;
  lap(0x2000);
  for (std::uint16_t i = 0; i < this->kSize; ++i) {
    EXPECT_EQ(this->device->descriptor(i).addr, 0x2000U + i);
    EXPECT_EQ(this->device->descriptor(i).len, 100U);
  }
}

TYPED_TEST(SplitRingTest, AfterARestartEverythingIsWritten) {
  const auto add = [this] {
    ASSERT_TRUE(this->queue->add_one({.iova = 0x1000, .len = 100, .device_writes = true}, this->cookie(0)));
    ASSERT_TRUE(this->queue->add_one({.iova = 0x2000, .len = 200, .device_writes = true}, this->cookie(1)));
    this->queue->publish();
  };
  add();
  this->queue->detach_all([](void*) {});
  std::memset(this->memory, 0, this->layout.bytes);
  this->queue->restart();
  add();
  EXPECT_EQ(this->device->descriptor(0).addr, 0x1000U);
  EXPECT_EQ(this->device->descriptor(1).addr, 0x2000U);
  EXPECT_EQ(this->device->avail_entry(1), 1U);
}

TYPED_TEST(SplitRingTest, PublishAsksForANotificationUnlessTheDeviceDeclines) {
  this->add_readable(this->cookie(0));
  EXPECT_TRUE(this->queue->publish());
  this->device->set_used_flags(ring::kUsedNoNotify);
  this->add_readable(this->cookie(1));
  EXPECT_FALSE(this->queue->publish());
  this->device->set_used_flags(0);
  EXPECT_FALSE(this->queue->publish()) << "nothing new to tell";
}

TYPED_TEST(SplitRingTest, EnablingInterruptsTellsWhatCameMeanwhile) {
  this->queue->disable_interrupts();
  EXPECT_EQ(this->device->avail_flags(), ring::kAvailNoInterrupt);
  this->add_writable(this->cookie(0));
  this->queue->publish();
  EXPECT_FALSE(this->queue->enable_interrupts());
  EXPECT_EQ(this->device->avail_flags(), 0);
  this->device->use(this->device->take(), 1);
  EXPECT_TRUE(this->queue->enable_interrupts());
}

TYPED_TEST(SplitRingTest, PollTakesNoMoreThanItsLimit) {
  for (std::size_t i = 0; i < 5; ++i) this->add_readable(this->cookie(i));
  this->queue->publish();
  for (int i = 0; i < 5; ++i) this->device->use(this->device->take(), 0);
  EXPECT_EQ(this->poll(2).size(), 2U);
  EXPECT_TRUE(this->queue->has_used());
  EXPECT_EQ(this->poll(10).size(), 3U);
  EXPECT_FALSE(this->queue->has_used());
}

TYPED_TEST(SplitRingTest, ATakenChainCanBeAddedAgainFromWithinPoll) {
  for (std::size_t i = 0; i < this->kSize; ++i) this->add_writable(this->cookie(i));
  this->queue->publish();
  for (int i = 0; i < this->kSize; ++i) this->device->use(this->device->take(), 4);
  std::size_t added = 0;
  this->queue->poll(1000, [&](void* cookie, std::uint32_t) { added += this->add_writable(cookie) ? 1U : 0U; });
  EXPECT_EQ(added, this->kSize);
  this->queue->publish();
  EXPECT_EQ(this->device->avail_index(), 2 * this->kSize);
}

TYPED_TEST(SplitRingTest, DetachGivesBackEveryCookieInFlightOnce) {
  for (std::size_t i = 0; i < 4; ++i) this->add_writable(this->cookie(i));
  this->queue->publish();
  this->device->use(this->device->take(), 4);
  EXPECT_EQ(this->poll().size(), 1U);
  std::vector<void*> detached;
  this->queue->detach_all([&](void* cookie) { detached.push_back(cookie); });
  EXPECT_EQ(detached.size(), 3U);
  this->queue->detach_all([&](void*) { ADD_FAILURE() << "twice"; });
}

TYPED_TEST(SplitRingTest, TheLegacyLayoutPutsTheUsedRingOnAPageOfItsOwn) {
  this->make(256, true);
  EXPECT_EQ(this->layout.avail, 4096U);
  EXPECT_EQ(this->layout.used, 8192U);
  EXPECT_EQ(this->layout.bytes, 8192U + 4096U);
  ASSERT_TRUE(this->add_writable(this->cookie(0)));
  this->queue->publish();
  this->device->use(this->device->take(), 9);
  EXPECT_EQ(this->poll(), (std::vector<typename TestFixture::Taken>{{this->cookie(0), 9}}));
}

TEST(SplitLayout, TheModernOneKeepsTheSpecificationsAlignments) {
  for (std::uint32_t size = 1; size <= ring::kMaxSize; size *= 2) {
    const virtio::SplitLayout made = virtio::SplitLayout::of(size, false);
    EXPECT_GE(made.avail, ring::descriptors_bytes(size));
    EXPECT_EQ(made.avail % ring::kAvailAlign, 0U);
    EXPECT_GE(made.used, made.avail + ring::avail_bytes(size));
    EXPECT_EQ(made.used % ring::kUsedAlign, 0U);
    EXPECT_GE(made.bytes, made.used + ring::used_bytes(size));
  }
}

}  // namespace
}  // namespace upci::virtio_tests
