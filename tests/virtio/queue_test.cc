// SPDX-License-Identifier: Apache-2.0
// What a device may say about a queue, and how memory for it is asked for.
#include "virtio/queue.h"

#include "tests/virtio/fake_transport.h"
#include "virtio/split_ring.h"

namespace upci::virtio_tests {
namespace {

struct QueueTest : testing::Test {
  std::shared_ptr<FakeTransport> modern = std::make_shared<FakeTransport>(FakeDevice::make(), false);
  std::shared_ptr<FakeTransport> legacy = std::make_shared<FakeTransport>(FakeDevice::make(), true);

  static void expect_refused(const std::shared_ptr<FakeTransport>& transport, std::uint16_t size) {
    transport->queue_size = size;
    const auto chosen = virtio::choose_queue_size(virtio::Device(transport, 0), 1, 256);
    ASSERT_FALSE(chosen) << size;
    EXPECT_EQ(chosen.error().code, Errc::kDevice);
    EXPECT_EQ(chosen.error().step, "queues");
    EXPECT_EQ(chosen.error().reg, "queue_size");
  }
};

TEST_F(QueueTest, SizesThatNoQueueMayHaveAreRefusedByBothInterfaces) {
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{0, 3, 100, 255, 32767, 32769, 65535}) {
    expect_refused(modern, size);
    expect_refused(legacy, size);
  }
}

TEST_F(QueueTest, AModernQueueIsCutToWhatTheDriverUses) {
  modern->queue_size = 32768;
  EXPECT_EQ(virtio::choose_queue_size(virtio::Device(modern, 0), 0, 256).value(), 256);
  modern->queue_size = 64;
  EXPECT_EQ(virtio::choose_queue_size(virtio::Device(modern, 0), 0, 256).value(), 64);
  modern->queue_size = 1;
  EXPECT_EQ(virtio::choose_queue_size(virtio::Device(modern, 0), 0, 256).value(), 1);
  modern->queue_size = 256;
  EXPECT_EQ(virtio::choose_queue_size(virtio::Device(modern, 0), 0, 100).value(), 64) << "a power of two";
}

TEST_F(QueueTest, APackedQueueNeedsNoPowerOfTwo) {
  const std::uint64_t packed = virtio::spec::mask_of(virtio::spec::feature::kRingPacked);
  modern->queue_size = 100;
  EXPECT_EQ(virtio::choose_queue_size(virtio::Device(modern, packed), 0, 256).value(), 100);
  for (const std::uint16_t size : {std::uint16_t{0}, std::uint16_t{32769}}) {
    modern->queue_size = size;
    EXPECT_EQ(virtio::choose_queue_size(virtio::Device(modern, packed), 0, 256).error().code, Errc::kDevice);
  }
}

TEST_F(QueueTest, ALegacyQueueHasTheDevicesSize) {
  legacy->queue_size = 1024;
  EXPECT_EQ(virtio::choose_queue_size(virtio::Device(legacy, 0), 0, 256).value(), 1024);
}

TEST_F(QueueTest, MemoryIsTranslatedOnlyWithAccessPlatform) {
  const std::uint64_t version_1 = virtio::spec::mask_of(virtio::spec::feature::kVersion1);
  const std::uint64_t platform = virtio::spec::mask_of(virtio::spec::feature::kAccessPlatform);
  EXPECT_EQ(virtio::dma_kind(virtio::Device(modern, version_1)), device::DmaKind::kPhysical);
  EXPECT_EQ(virtio::dma_kind(virtio::Device(modern, version_1 | platform)), device::DmaKind::kTranslated);
}

TEST_F(QueueTest, ALegacyRingLiesOnAPageThatItsRegisterCanName) {
  ASSERT_TRUE(virtio::alloc_ring(virtio::Device(legacy, 0), virtio::SplitLayout::of(256, true).bytes));
  const device::DmaRequest& request = legacy->fake().dma_.requests.at(0);
  EXPECT_EQ(request.align, 4096U);
  EXPECT_EQ(request.mask, 0xfff'ffff'ffffU);
  EXPECT_EQ(request.len, virtio::SplitLayout::of(256, true).bytes);
  EXPECT_EQ(request.kind, device::DmaKind::kPhysical);
}

}  // namespace
}  // namespace upci::virtio_tests
