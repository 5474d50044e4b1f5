// SPDX-License-Identifier: Apache-2.0
// The driver's side of a packed ring, with a device that keeps the rules and with one that does not.
#include <deque>

#include "tests/virtio/packed_fixture.h"

namespace upci::virtio_tests {
namespace {

template <class Access>
class PackedRingTest : public PackedTest<Access> {
 protected:
  using Takens = std::vector<typename PackedTest<Access>::Taken>;
  void expect_broken(std::string_view reg) {
    const auto error = this->queue->error();
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code, Errc::kDevice);
    EXPECT_EQ(error->step, "ring");
    EXPECT_EQ(error->reg, reg);
    this->device->use(0, 0);
    EXPECT_TRUE(this->poll().empty());
    EXPECT_FALSE(this->add(this->cookie(50)));
    EXPECT_FALSE(this->queue->has_used());
  }
};
TYPED_TEST_SUITE(PackedRingTest, PackedPolicies, PackedPolicyNames);

TYPED_TEST(PackedRingTest, NothingIsAvailableBeforePublishAndThenAllIs) {
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(this->add(this->cookie(i)));
  EXPECT_FALSE(this->device->take());
  EXPECT_TRUE(this->queue->publish());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(this->device->take());
  EXPECT_FALSE(this->device->take());
  EXPECT_FALSE(this->queue->publish()) << "nothing is new";
}

// The device polls the line of the first one: until all of it is ready nothing is written there.
TYPED_TEST(PackedRingTest, TheFirstCacheLineIsWrittenOnlyWithThePublication) {
  constexpr std::uint16_t kLong = 16;
  constexpr std::size_t kPerLine = 64 / sizeof(packed::Descriptor);
  this->make(kLong, {});
  for (std::size_t lap = 0, at = 0; lap < 3; ++lap) {
    const std::vector<std::byte> before(this->memory, this->memory + this->layout.bytes);
    for (std::size_t i = 0; i < 6; ++i) ASSERT_TRUE(this->add(this->cookie(i)));
    const std::size_t line = at / kPerLine * 64;
    for (std::size_t i = line; i < line + 64; ++i) ASSERT_EQ(this->memory[i], before[i]) << i;
    this->queue->publish();
    for (std::size_t i = 0; i < 6; ++i) {
      const auto chain = this->device->take();
      ASSERT_TRUE(chain) << i;
      this->device->use(chain->id, 1);
    }
    EXPECT_EQ(this->poll().size(), 6U);
    at = (at + 6) % kLong;
  }
}

TYPED_TEST(PackedRingTest, AChainSaysWhereHowLongAndWhichWay) {
  const virtio::Segment chain[] = {{.iova = 0x10, .len = 1}, {.iova = 0x20, .len = 2, .device_writes = true}};
  ASSERT_TRUE(this->queue->add(chain, this->cookie(0)));
  this->queue->publish();
  const auto taken = this->device->take();
  ASSERT_TRUE(taken && taken->descriptors.size() == 2);
  EXPECT_EQ(taken->descriptors[0].addr, 0x10U);
  EXPECT_EQ(taken->descriptors[0].flags & 7U, packed::kDescNext);
  EXPECT_EQ(taken->descriptors[1].addr, 0x20U);
  EXPECT_EQ(taken->descriptors[1].len, 2U);
  EXPECT_EQ(taken->descriptors[1].flags & 7U, packed::kDescWrite);
  EXPECT_EQ(this->queue->room(), this->kSize - 2);
  EXPECT_EQ(this->queue->in_flight(), 1);
}

TYPED_TEST(PackedRingTest, UsedChainsComeBackInTheDevicesOrder) {
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(this->add(this->cookie(i)));
  this->queue->publish();
  std::vector<std::uint16_t> ids;
  while (const auto chain = this->device->take()) ids.push_back(chain->id);
  this->device->use(ids[2], 10);
  this->device->use(ids[0], 20);
  EXPECT_EQ(this->poll(), (typename TestFixture::Takens{{this->cookie(2), 10}, {this->cookie(0), 20}}));
  EXPECT_EQ(this->queue->in_flight(), 1);
  this->device->use(ids[1], 30);
  EXPECT_EQ(this->poll(), (typename TestFixture::Takens{{this->cookie(1), 30}}));
}

TYPED_TEST(PackedRingTest, AFullRingTakesNoMoreAndAChainIsRefusedWhole) {
  for (std::size_t i = 0; i + 1 < this->kSize; ++i) ASSERT_TRUE(this->add(this->cookie(i)));
  EXPECT_FALSE(this->add(this->cookie(20), 8, true, 2));
  EXPECT_EQ(this->queue->room(), 1);
  EXPECT_TRUE(this->add(this->cookie(21)));
  EXPECT_FALSE(this->add(this->cookie(22)));
  EXPECT_FALSE(this->queue->add({}, this->cookie(22)));
}

TYPED_TEST(PackedRingTest, ChainsOfManyLengthsInAnyOrderThroughManyLaps) {
  std::uint32_t random = 4711;
  const auto below = [&random](std::size_t limit) {
    random = random * 1'664'525U + 1'013'904'223U;
    return (random >> 16) % limit;
  };
  struct Out {
    std::uint16_t id;
    std::size_t count;
    void* cookie;
  };
  std::vector<Out> outstanding;
  std::deque<std::pair<void*, std::size_t>> added;
  for (int round = 0; round < 30'000; ++round) {
    if (below(2) == 0) {
      const std::size_t count = 1 + below(3);
      if (this->add(this->cookie(static_cast<std::size_t>(round) % 64), 8, true, count))
        added.emplace_back(this->cookie(static_cast<std::size_t>(round) % 64), count);
      if (below(2) == 0) this->queue->publish();
    }
    while (const auto chain = this->device->take()) {
      ASSERT_EQ(chain->descriptors.size(), added.front().second);
      outstanding.push_back({chain->id, added.front().second, added.front().first});
      added.pop_front();
    }
    if (!outstanding.empty() && below(2) == 0) {
      const auto at = outstanding.begin() + static_cast<std::ptrdiff_t>(below(outstanding.size()));
      this->device->use(at->id, 8, at->count);
      EXPECT_EQ(this->poll(), (typename TestFixture::Takens{{at->cookie, 8}}));
      outstanding.erase(at);
    }
    ASSERT_FALSE(this->queue->broken());
  }
}

// --- indirect ---

TYPED_TEST(PackedRingTest, AnIndirectChainTakesOneDescriptor) {
  this->make(this->kSize, {}, true);
  const virtio::Segment chain[] = {
      {.iova = 0x10, .len = 1}, {.iova = 0x20, .len = 2}, {.iova = 0x30, .len = 30, .device_writes = true}};
  ASSERT_TRUE(this->queue->add(chain, this->cookie(0)));
  ASSERT_TRUE(this->add(this->cookie(1), 5, true, this->kTable + 1U)) << "longer than a table: direct";
  this->queue->publish();
  EXPECT_EQ(this->queue->room(), this->kSize - 1 - (this->kTable + 1));
  EXPECT_EQ(this->queue->counters().indirect.load(), 1U);
  const auto taken = this->device->take();
  ASSERT_TRUE(taken && taken->descriptors.size() == 1);
  const packed::Descriptor& descriptor = taken->descriptors[0];
  EXPECT_EQ(descriptor.flags & 7U, packed::kDescIndirect);
  EXPECT_EQ(descriptor.len, 3 * sizeof(packed::Descriptor));
  packed::Descriptor table[3];
  ASSERT_GE(descriptor.addr, this->kTables);
  ASSERT_LE(descriptor.addr - this->kTables + sizeof(table), this->tables.size());
  std::memcpy(table, this->tables.data() + (descriptor.addr - this->kTables), sizeof(table));
  EXPECT_EQ(table[1].addr, 0x20U);
  EXPECT_EQ(table[1].flags, 0);
  EXPECT_EQ(table[2].flags, packed::kDescWrite);
  this->device->use(descriptor.id, 30);
  EXPECT_EQ(this->poll(), (typename TestFixture::Takens{{this->cookie(0), 30}}));
}

// --- notifications ---

TYPED_TEST(PackedRingTest, TheDeviceSaysWhetherItWantsToBeTold) {
  this->add(this->cookie(0));
  EXPECT_TRUE(this->queue->publish());
  this->device->set_device_event({.offset_wrap = 0, .flags = packed::kEventDisable});
  this->add(this->cookie(1));
  EXPECT_FALSE(this->queue->publish());
  EXPECT_EQ(this->queue->counters().kicks.load(), 1U);
  EXPECT_EQ(this->queue->counters().kicks_suppressed.load(), 1U);
}

// As QEMU 7.2 does, which says where it waits before it goes on, and then waits without saying it anew.
TYPED_TEST(PackedRingTest, ADeviceThatWaitsWhereItHasLongPassedIsTold) {
  this->make(this->kSize, {.event_idx = true});
  const std::size_t size = this->kSize;
  for (std::size_t round = 0; round < 4 * size; ++round) {
    for (std::size_t back = 1; back <= size; ++back) {
      const std::size_t now = this->device->next_avail() + (this->device->avail_wrap() ? 0U : size);
      const std::size_t then = (now + 2 * size - back) % (2 * size);
      this->device->set_device_event(
          {.offset_wrap = packed::offset_wrap(static_cast<std::uint16_t>(then % size), then < size),
           .flags = packed::kEventDescriptor});
      const std::size_t count = 1 + (round + back) % (size - 1);
      for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(this->add(this->cookie(i)));
      ASSERT_TRUE(this->queue->publish()) << back << " back, " << count << " new";
      while (const auto chain = this->device->take()) this->device->use(chain->id, 0);
      ASSERT_EQ(this->poll().size(), count);
    }
  }
}

TYPED_TEST(PackedRingTest, WithEventIdxItIsToldAtTheDescriptorThatItNamed) {
  this->make(this->kSize, {.event_idx = true});
  // Through several laps: told exactly when the named descriptor is among those that were published.
  for (int round = 0; round < 50; ++round) {
    const std::uint16_t begin = this->device->next_avail();
    const bool wrap = this->device->avail_wrap();
    const unsigned ahead = static_cast<unsigned>(round) % 5;
    const unsigned event = begin + ahead;
    const bool event_wrap = event >= this->kSize ? !wrap : wrap;
    this->device->set_device_event(
        {.offset_wrap = packed::offset_wrap(static_cast<std::uint16_t>(event % this->kSize), event_wrap),
         .flags = packed::kEventDescriptor});
    const unsigned count = 1 + static_cast<unsigned>(round) % 3;
    for (unsigned i = 0; i < count; ++i) ASSERT_TRUE(this->add(this->cookie(i)));
    EXPECT_EQ(this->queue->publish(), ahead < count) << round;
    while (const auto chain = this->device->take()) this->device->use(chain->id, 0);
    EXPECT_EQ(this->poll().size(), count);
  }
}

TYPED_TEST(PackedRingTest, ItSaysWhenItWantsToBeTold) {
  this->queue->disable_interrupts();
  EXPECT_EQ(this->device->driver_event().flags, packed::kEventDisable);
  EXPECT_FALSE(this->queue->enable_interrupts());
  EXPECT_EQ(this->device->driver_event().flags, packed::kEventEnable);
  this->add(this->cookie(0));
  this->queue->publish();
  this->device->use(this->device->take()->id, 1);
  EXPECT_TRUE(this->queue->enable_interrupts()) << "something was used meanwhile";

  this->make(this->kSize, {.event_idx = true});
  for (int lap = 0; lap < 20; ++lap) {
    this->add(this->cookie(0));
    this->queue->publish();
    const auto chain = this->device->take();
    EXPECT_FALSE(this->queue->enable_interrupts());
    EXPECT_EQ(this->device->driver_event().flags, packed::kEventDescriptor);
    const unsigned expected = static_cast<unsigned>(lap) % this->kSize;
    EXPECT_EQ(this->device->driver_event().offset_wrap,
              packed::offset_wrap(static_cast<std::uint16_t>(expected), lap / this->kSize % 2 == 0));
    this->device->use(chain->id, 1);
    EXPECT_EQ(this->poll().size(), 1U);
  }
}

// --- in order ---

TYPED_TEST(PackedRingTest, InOrderOneDescriptorStandsForABatch) {
  this->make(this->kSize, {.in_order = true});
  for (int lap = 0; lap < 20; ++lap) {
    for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(this->add(this->cookie(i), 100, true, 1 + i % 2));
    this->queue->publish();
    std::uint16_t last = 0;
    while (const auto chain = this->device->take()) last = chain->id;
    this->device->use(last, 7, 4);
    EXPECT_EQ(this->poll(1), (typename TestFixture::Takens{{this->cookie(0), 100}})) << "wholly, said by the batch";
    EXPECT_TRUE(this->queue->has_used());
    EXPECT_EQ(this->poll(), (typename TestFixture::Takens{{this->cookie(1), 200}, {this->cookie(2), 7}}));
    EXPECT_EQ(this->queue->room(), this->kSize);
  }
  EXPECT_EQ(this->queue->counters().batched.load(), 40U);
}

// --- distrust ---

TYPED_TEST(PackedRingTest, AnIdBeyondTheRingBreaksIt) {
  this->add(this->cookie(0));
  this->queue->publish();
  this->device->use(this->kSize, 4);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.id");
}

TYPED_TEST(PackedRingTest, AnIdThatIsNotInFlightBreaksIt) {
  this->add(this->cookie(0));
  this->queue->publish();
  this->device->use((this->device->take()->id + 1U) % this->kSize, 4);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.id");
}

TYPED_TEST(PackedRingTest, TheSameIdTwiceBreaksItAndIsDeliveredOnce) {
  this->add(this->cookie(0));
  this->add(this->cookie(1));
  this->queue->publish();
  const std::uint16_t id = this->device->take()->id;
  this->device->use(id, 4);
  this->device->use(id, 4);
  EXPECT_EQ(this->poll(), (typename TestFixture::Takens{{this->cookie(0), 4}}));
  this->expect_broken("used.id");
}

TYPED_TEST(PackedRingTest, ALengthAboveWhatIsWritableBreaksIt) {
  const virtio::Segment chain[2] = {{.iova = 1, .len = 1000}, {.iova = 2, .len = 50, .device_writes = true}};
  this->queue->add(chain, this->cookie(0));
  this->queue->publish();
  this->device->use(this->device->take()->id, 51, 2);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.len");
}

// As DPDK's vhost does it: the length stays what the driver wrote. Section "Element Address and Length".
TYPED_TEST(PackedRingTest, WithoutTheWriteFlagTheLengthOfAChainThatIsOnlyReadMeansNothing) {
  this->add(this->cookie(0), 100, false);
  this->queue->publish();
  this->device->use(this->device->take()->id, 100);
  EXPECT_EQ(this->poll(), (typename TestFixture::Takens{{this->cookie(0), 0}}));
  EXPECT_FALSE(this->queue->broken());
}

TYPED_TEST(PackedRingTest, WithTheWriteFlagALengthWhereNothingIsWritableBreaksIt) {
  this->add(this->cookie(0), 100, false);
  this->queue->publish();
  this->device->use(this->device->take()->id, 100, 1, packed::kDescWrite);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.len");
}

TYPED_TEST(PackedRingTest, AChainThatWasNotPublishedCannotHaveBeenUsed) {
  this->add(this->cookie(0));
  this->device->use(0, 4);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.id");
  this->queue->publish();
}

TYPED_TEST(PackedRingTest, AChainThatWasNotPublishedCannotHaveBeenUsedInThePlaceOfOneThatWas) {
  this->add(this->cookie(0));
  this->queue->publish();
  const std::uint16_t id = this->device->take()->id;
  this->add(this->cookie(1));
  this->device->use(id + 1U, 4);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.id");
}

TYPED_TEST(PackedRingTest, DetachGivesEachChainOnce) {
  for (std::size_t i = 0; i < 3; ++i) this->add(this->cookie(i));
  this->queue->publish();
  this->device->use(this->device->take()->id, 4);
  EXPECT_EQ(this->poll().size(), 1U);
  std::vector<void*> given;
  this->queue->detach_all([&](void* cookie) { given.push_back(cookie); });
  EXPECT_EQ(given.size(), 2U);
  EXPECT_EQ(this->queue->in_flight(), 0);
}

}  // namespace
}  // namespace upci::virtio_tests
