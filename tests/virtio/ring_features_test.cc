// SPDX-License-Identifier: Apache-2.0
// What a split ring can have beside its basic form: indirect descriptors, EVENT_IDX, IN_ORDER.
#include "tests/virtio/ring_fixture.h"

namespace upci::virtio_tests {
namespace {

template <class Access>
class RingFeaturesTest : public RingTest<Access> {
 protected:
  using Takens = std::vector<typename RingTest<Access>::Taken>;
};
TYPED_TEST_SUITE(RingFeaturesTest, Policies, PolicyNames);

TYPED_TEST(RingFeaturesTest, AnIndirectChainTakesOneDescriptor) {
  this->make(this->kSize, {}, true);
  const virtio::Segment chain[] = {
      {.iova = 0x10, .len = 1}, {.iova = 0x20, .len = 2}, {.iova = 0x30, .len = 30, .device_writes = true}};
  ASSERT_TRUE(this->queue->add(chain, this->cookie(0)));
  ASSERT_TRUE(this->add_readable(this->cookie(1))) << "a single segment needs no table";
  this->queue->publish();
  EXPECT_EQ(this->queue->room(), this->kSize - 2);
  EXPECT_EQ(this->queue->counters().indirect.load(), 1U);
  const std::uint16_t head = this->device->take();
  const ring::Descriptor descriptor = this->device->descriptor(head);
  EXPECT_EQ(descriptor.flags, ring::kDescIndirect);
  ASSERT_EQ(descriptor.len, 3 * sizeof(ring::Descriptor));
  ring::Descriptor table[3];
  ASSERT_GE(descriptor.addr, this->kTables);
  ASSERT_LE(descriptor.addr - this->kTables + sizeof(table), this->tables.size());
  std::memcpy(table, this->tables.data() + (descriptor.addr - this->kTables), sizeof(table));
  EXPECT_EQ(table[0].flags, ring::kDescNext);
  EXPECT_EQ(table[0].next, 1);
  EXPECT_EQ(table[2].addr, 0x30U);
  EXPECT_EQ(table[2].flags, ring::kDescWrite);
  this->device->use(head, 30);
  EXPECT_EQ(this->poll(), (typename TestFixture::Takens{{this->cookie(0), 30}}));
}

TYPED_TEST(RingFeaturesTest, AChainLongerThanATableIsDirect) {
  this->make(this->kSize, {}, true);
  const std::vector<virtio::Segment> chain(this->kTable + 1U, {.iova = 0x10, .len = 1});
  ASSERT_TRUE(this->queue->add(chain, this->cookie(0)));
  this->queue->publish();
  EXPECT_EQ(this->queue->room(), this->kSize - (this->kTable + 1));
  EXPECT_EQ(this->queue->counters().indirect.load(), 0U);
}

TYPED_TEST(RingFeaturesTest, ATableGoesRoundWithItsDescriptor) {
  this->make(this->kSize, {}, true);
  const virtio::Segment chain[] = {{.iova = 0x10, .len = 1}, {.iova = 0x20, .len = 2, .device_writes = true}};
  for (int round = 0; round < 100; ++round) {
    for (std::size_t i = 0; i < this->kSize; ++i) ASSERT_TRUE(this->queue->add(chain, this->cookie(i)));
    EXPECT_FALSE(this->queue->add(chain, this->cookie(20)));
    this->queue->publish();
    for (std::size_t i = 0; i < this->kSize; ++i) this->device->use(this->device->take(), 2);
    EXPECT_EQ(this->poll().size(), this->kSize);
  }
}

// Section "Available Buffer Notification Suppression": by avail_event instead of the flags.
TYPED_TEST(RingFeaturesTest, WithEventIdxTheDeviceIsToldAtTheIndexThatItNamed) {
  this->make(this->kSize, {.event_idx = true});
  std::uint16_t index = 0;
  for (std::uint32_t round = 0; round < 70'000; ++round) {
    const unsigned ahead = round % 4;
    const unsigned count = 1 + round % 3;
    this->device->set_avail_event(static_cast<std::uint16_t>(index + ahead));
    this->device->set_used_flags(ring::kUsedNoNotify);  // means nothing now
    for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(this->add_readable(this->cookie(i)));
    ASSERT_EQ(this->queue->publish(), ahead < count) << round;
    index = static_cast<std::uint16_t>(index + count);
    for (std::size_t i = 0; i < count; ++i) this->device->use(this->device->take(), 0);
    ASSERT_EQ(this->poll().size(), count);
  }
  EXPECT_GT(this->queue->counters().kicks.load(), 10'000U);
  EXPECT_GT(this->queue->counters().kicks_suppressed.load(), 10'000U);
}

TYPED_TEST(RingFeaturesTest, ADeviceThatWaitsForMoreThanThereIsIsTold) {
  for (const bool expected : {false, true}) {
    this->make(this->kSize, {.event_idx = true});
    if (expected) this->queue->expect_partial_waits();
    for (std::size_t i = 0; i < 3; ++i) this->add_readable(this->cookie(i));
    this->queue->publish();
    // It has used none of them, waits for a fourth, and says so at one that is there already.
    this->device->set_avail_event(1);
    this->add_readable(this->cookie(3));
    EXPECT_EQ(this->queue->publish(), expected);
    // Further on nothing changes.
    this->device->set_avail_event(100);
    this->add_readable(this->cookie(4));
    EXPECT_FALSE(this->queue->publish());
  }
}

TYPED_TEST(RingFeaturesTest, WithEventIdxTheDriverNamesTheIndexAndLeavesTheFlagsAlone) {
  this->make(this->kSize, {.event_idx = true});
  for (std::uint16_t round = 0; round < 20; ++round) {
    EXPECT_FALSE(this->queue->enable_interrupts());
    EXPECT_EQ(this->device->used_event(), round) << "the next one";
    this->add_readable(this->cookie(0));
    this->queue->publish();
    this->device->use(this->device->take(), 0);
    EXPECT_TRUE(this->queue->enable_interrupts()) << "used meanwhile";
    this->queue->disable_interrupts();
    EXPECT_FALSE(ring::event_reached(this->device->used_event(), static_cast<std::uint16_t>(round + 1000), round));
    EXPECT_EQ(this->device->avail_flags(), 0);
    EXPECT_EQ(this->poll().size(), 1U);
  }
}

TYPED_TEST(RingFeaturesTest, InOrderOneElementStandsForABatch) {
  this->make(this->kSize, {.in_order = true});
  for (int round = 0; round < 20; ++round) {
    for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(this->add_writable(this->cookie(i)));
    this->queue->publish();
    std::uint16_t last = 0;
    for (int i = 0; i < 3; ++i) last = this->device->take();
    this->device->use_batch(last, 7, 3);
    EXPECT_EQ(this->poll(1), (typename TestFixture::Takens{{this->cookie(0), 100}})) << "wholly, said by the batch";
    EXPECT_EQ(this->poll(), (typename TestFixture::Takens{{this->cookie(1), 100}, {this->cookie(2), 7}}));
  }
  EXPECT_EQ(this->queue->counters().batched.load(), 40U);
}

TYPED_TEST(RingFeaturesTest, InOrderElementByElementToo) {
  this->make(this->kSize, {.in_order = true});
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(this->add_writable(this->cookie(i)));
  this->queue->publish();
  for (std::uint32_t i = 0; i < 3; ++i) this->device->use(this->device->take(), i);
  EXPECT_EQ(this->poll(),
            (typename TestFixture::Takens{{this->cookie(0), 0}, {this->cookie(1), 1}, {this->cookie(2), 2}}));
  EXPECT_EQ(this->queue->counters().batched.load(), 0U);
}

TYPED_TEST(RingFeaturesTest, ABatchThatEndsBeyondTheUsedIndexBreaksTheRing) {
  this->make(this->kSize, {.in_order = true});
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(this->add_writable(this->cookie(i)));
  this->queue->publish();
  this->device->take();
  this->device->take();
  this->device->use_batch(this->device->take(), 7, 2);
  EXPECT_LE(this->poll().size(), 1U);
  ASSERT_TRUE(this->queue->error());
  EXPECT_EQ(this->queue->error()->reg, "used.idx");
}

}  // namespace
}  // namespace upci::virtio_tests
