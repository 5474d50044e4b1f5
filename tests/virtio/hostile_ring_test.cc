// SPDX-License-Identifier: Apache-2.0
// A device that breaks the rules of the used ring breaks the ring, and nothing else.
#include <algorithm>

#include "tests/virtio/ring_fixture.h"

namespace upci::virtio_tests {
namespace {

template <class Access>
class HostileRingTest : public RingTest<Access> {
 protected:
  void expect_broken(std::string_view reg) {
    const auto error = this->queue->error();
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code, Errc::kDevice);
    EXPECT_EQ(error->step, "ring");
    EXPECT_EQ(error->reg, reg);
    EXPECT_FALSE(error->what.empty());
    EXPECT_TRUE(this->queue->broken());
    // It gives and takes nothing any more, whatever the device does next.
    this->device->use(0, 0);
    EXPECT_TRUE(this->poll().empty());
    EXPECT_FALSE(this->add_readable(this->cookie(50)));
    EXPECT_FALSE(this->queue->has_used());
    EXPECT_FALSE(this->queue->enable_interrupts());
  }
};
TYPED_TEST_SUITE(HostileRingTest, Policies, PolicyNames);

TYPED_TEST(HostileRingTest, AnIdBeyondTheRingBreaksIt) {
  this->add_writable(this->cookie(0));
  this->queue->publish();
  this->device->use(this->kSize, 4);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.id");
}

TYPED_TEST(HostileRingTest, AnIdFarBeyondTheRingBreaksIt) {
  this->add_writable(this->cookie(0));
  this->queue->publish();
  this->device->use(0xffff'ffff, 4);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.id");
}

TYPED_TEST(HostileRingTest, AnIdThatIsNotInFlightBreaksIt) {
  this->add_writable(this->cookie(0));
  this->queue->publish();
  this->device->use((this->device->take() + 1U) % this->kSize, 4);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.id");
}

TYPED_TEST(HostileRingTest, TheSameIdTwiceBreaksItAndIsDeliveredOnce) {
  this->add_writable(this->cookie(0));
  this->add_writable(this->cookie(1));
  this->queue->publish();
  const std::uint16_t head = this->device->take();
  this->device->use(head, 4);
  this->device->use(head, 4);
  EXPECT_EQ(this->poll(), (std::vector<typename TestFixture::Taken>{{this->cookie(0), 4}}));
  this->expect_broken("used.id");
}

TYPED_TEST(HostileRingTest, AnIdInTheMiddleOfAChainBreaksIt) {
  const virtio::Segment chain[2] = {{.iova = 1, .len = 1}, {.iova = 2, .len = 2, .device_writes = true}};
  this->queue->add(chain, this->cookie(0));
  this->queue->publish();
  this->device->use(this->device->descriptor(this->device->take()).next, 2);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.id");
}

TYPED_TEST(HostileRingTest, ALengthAboveWhatIsWritableBreaksIt) {
  const virtio::Segment chain[2] = {{.iova = 1, .len = 1000}, {.iova = 2, .len = 50, .device_writes = true}};
  this->queue->add(chain, this->cookie(0));
  this->queue->publish();
  this->device->use(this->device->take(), 51);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.len");
}

TYPED_TEST(HostileRingTest, ALengthOnAChainThatIsOnlyReadBreaksIt) {
  this->add_readable(this->cookie(0));
  this->queue->publish();
  this->device->use(this->device->take(), 1);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.len");
}

TYPED_TEST(HostileRingTest, ALegacyDeviceMayReportAnyLengthOnAChainThatIsOnlyRead) {
  this->make(8, true);
  this->add_readable(this->cookie(0));
  this->add_writable(this->cookie(1), 10);
  this->queue->publish();
  this->device->use(this->device->take(), 100);
  EXPECT_EQ(this->poll(), (std::vector<typename TestFixture::Taken>{{this->cookie(0), 0}}));
  this->device->use(this->device->take(), 11);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.len");
}

TYPED_TEST(HostileRingTest, AnIndexAheadOfWhatWasAvailableBreaksIt) {
  this->add_writable(this->cookie(0));
  this->add_writable(this->cookie(1));
  this->queue->publish();
  this->device->set_used_index(3);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.idx");
}

TYPED_TEST(HostileRingTest, AnIndexThatGoesBackBreaksIt) {
  this->add_writable(this->cookie(0));
  this->queue->publish();
  this->device->use(this->device->take(), 1);
  EXPECT_EQ(this->poll().size(), 1U);
  this->device->set_used_index(0);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.idx");
}

TYPED_TEST(HostileRingTest, ABufferThatWasNotPublishedYetCannotBeUsed) {
  this->add_writable(this->cookie(0));
  this->device->use(0, 1);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.idx");
}

TYPED_TEST(HostileRingTest, ABufferThatWasNotPublishedYetCannotBeUsedInThePlaceOfOneThatWas) {
  this->add_writable(this->cookie(0));
  this->queue->publish();
  const std::uint16_t head = this->device->take();
  this->add_writable(this->cookie(1));
  this->device->use((head + 1U) % this->kSize, 1);
  EXPECT_TRUE(this->poll().empty());
  this->expect_broken("used.id");
}

TYPED_TEST(HostileRingTest, RandomWritesOfTheDeviceNeverDeliverAChainTwiceOrOutOfBounds) {
  std::uint32_t random = 99;
  const auto next = [&random] { return random = random * 1'664'525U + 1'013'904'223U, random >> 8; };
  int broken = 0;
  for (int round = 0; round < 2'000; ++round) {
    this->make(8, false);
    std::vector<void*> in_flight;
    for (int step = 0; step < 40 && !this->queue->broken(); ++step) {
      void* cookie = this->cookie(static_cast<std::size_t>(step));
      if (this->add_writable(cookie, 16)) in_flight.push_back(cookie);
      this->queue->publish();
      // Mostly plausible, at times not.
      const std::uint32_t id = next() % 16 == 0 ? next() : next() % 8;
      const std::uint32_t len = next() % 32 == 0 ? next() : next() % 17;
      if (next() % 2 == 0) this->device->use(id, len);
      for (const auto& taken : this->poll()) {
        const auto at = std::find(in_flight.begin(), in_flight.end(), taken.cookie);
        ASSERT_NE(at, in_flight.end());
        ASSERT_LE(taken.len, 16U);
        in_flight.erase(at);
      }
    }
    broken += this->queue->broken() ? 1 : 0;
    ASSERT_EQ(this->lint->violations(), 0U);
    std::size_t left = 0;
    this->queue->detach_all([&](void*) { ++left; });
    ASSERT_EQ(left, in_flight.size());
  }
  EXPECT_GT(broken, 1'000);
}

}  // namespace
}  // namespace upci::virtio_tests
