// SPDX-License-Identifier: Apache-2.0
// The control queue against a device that answers, answers nonsense, or does not answer at all.
#include "drivers/virtio_net/control_queue.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <vector>

#include "tests/virtio/fake_transport.h"
#include "virtio/spec/ring.h"

namespace upci::driver_tests {
namespace {

using namespace std::chrono_literals;
using Ring = virtio::SplitRing<virtio::PlainAccess>;
using virtio_tests::FakeDevice;
using virtio_tests::FakeTransport;

constexpr std::uint16_t kSize = 16;

class ControlQueueTest : public testing::Test {
 protected:
  void SetUp() override {
    transport->set_initial_status(virtio_tests::status::kDriverOk);
    auto part = virtio::make_ring<Ring>(device, kSize, nullptr);
    ASSERT_TRUE(part);
    ring = part->memory.va();
    auto memory = virtio::alloc_buffers(device, virtio_net::ControlQueueImpl<Ring>::kBytes);
    ASSERT_TRUE(memory);
    buffer = memory->va();
    auto made = std::make_unique<virtio_net::ControlQueueImpl<Ring>>(device, std::move(*part), std::move(*memory));
    made->set_notifier(std::make_unique<Bell>(*this));
    queue = std::move(made);
  }

  struct Bell final : virtio::Notifier {
    explicit Bell(ControlQueueTest& owner) : test(owner) {}
    void notify(std::uint16_t) noexcept override {
      test.kicks++;
      if (test.on_kick) test.on_kick();
    }
    ControlQueueTest& test;
  };

  /// Plays the device: gives a chain back.
  void use(std::uint32_t id, std::uint32_t length) {
    const virtio::SplitLayout layout = virtio::SplitLayout::of(kSize, false);
    const virtio::spec::ring::UsedElement element{.id = id, .len = length};
    const std::size_t place = used % kSize;
    ++used;
    std::memcpy(ring + layout.used + 4 + place * sizeof(element), &element, sizeof(element));
    std::memcpy(ring + layout.used + 2, &used, sizeof(used));
  }
  /// Of the chain that was made available last.
  std::uint16_t head() const {
    const virtio::SplitLayout layout = virtio::SplitLayout::of(kSize, false);
    std::uint16_t available = 0;
    std::memcpy(&available, ring + layout.avail + 2, sizeof(available));
    std::uint16_t index = 0;
    std::memcpy(&index, ring + layout.avail + 4 + (available - 1U) % kSize * sizeof(index), sizeof(index));
    return index;
  }
  void answer(std::uint8_t ack) {
    buffer[64] = std::byte{ack};
    use(head(), 1);
  }
  Result<void> command(platform::Nanoseconds limit = 10s) {
    const std::vector<std::byte> data = {std::byte{7}, std::byte{8}, std::byte{9}};
    const std::span<const std::byte> piece = data;
    return queue->command(1, 2, std::span(&piece, 1), Deadline::after(limit));
  }

  std::shared_ptr<FakeTransport> transport = std::make_shared<FakeTransport>(FakeDevice::make());
  virtio::Device device{transport, virtio::spec::mask_of(virtio::spec::feature::kVersion1)};
  std::unique_ptr<virtio_net::ControlQueue> queue;
  std::function<void()> on_kick;
  std::byte* ring = nullptr;
  std::byte* buffer = nullptr;
  std::uint16_t used = 0;
  int kicks = 0;
};

TEST_F(ControlQueueTest, ACommandIsItsTwoBytesItsDataAndRoomForTheAnswer) {
  on_kick = [this] { answer(0); };
  for (int i = 0; i < 40; i++) {
    ASSERT_TRUE(command()) << i;
    EXPECT_EQ(buffer[0], std::byte{1});
    EXPECT_EQ(buffer[1], std::byte{2});
    virtio::spec::ring::Descriptor first{};
    std::memcpy(&first, ring + head() * sizeof(first), sizeof(first));
    EXPECT_EQ(first.len, 2U);
    EXPECT_NE(first.flags & virtio::spec::ring::kDescNext, 0);
  }
  EXPECT_EQ(kicks, 40);
}

TEST_F(ControlQueueTest, OneThatIsNotAnsweredIsStuckAtItsDeadlineAndIsTheLast) {
  const platform::TimePoint before = platform::Clock::now();
  const auto result = command(50ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().verdict, Verdict::kStuck);
  EXPECT_EQ(result.error().step, "control");
  EXPECT_GE(platform::Clock::now() - before, 50ms);
  EXPECT_FALSE(result.error().advice.empty());
  // The device may still write the answer: nothing else may use the buffer.
  answer(0);
  EXPECT_EQ(command().error().code, Errc::kState);
  EXPECT_EQ(kicks, 1);
}

TEST_F(ControlQueueTest, ADeviceThatWantsToBeResetIsNotWaitedFor) {
  on_kick = [this] {
    transport->set_initial_status(virtio_tests::status::kDriverOk | virtio_tests::status::kNeedsReset);
  };
  const auto result = command();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().verdict, Verdict::kNeedsReset);
}

TEST_F(ControlQueueTest, ADeviceThatHasLeftIsNotWaitedFor) {
  on_kick = [this] { transport->fake().control_.present_ = false; };
  const auto result = command();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().verdict, Verdict::kGone);
}

TEST_F(ControlQueueTest, ARefusalIsAnErrorAndTheNextCommandGoesOn) {
  on_kick = [this] { answer(1); };
  const auto result = command();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::kDevice);
  EXPECT_NE(result.error().what.find("command 2 of class 1"), std::string::npos) << result.error().what;
  on_kick = [this] { answer(0); };
  EXPECT_TRUE(command());
}

TEST_F(ControlQueueTest, ABufferUsedWithoutAnAnswerIsNoSuccess) {
  on_kick = [this] { use(0, 0); };
  EXPECT_EQ(command().error().code, Errc::kDevice);
}

TEST_F(ControlQueueTest, ForgedIdsAndLengthsAreErrors) {
  on_kick = [this] { use(5, 1); };
  EXPECT_EQ(command().error().code, Errc::kDevice);
  EXPECT_EQ(command().error().code, Errc::kState) << "what became of the buffer nobody knows";
}

TEST_F(ControlQueueTest, ALengthAboveTheAnswersIsAnError) {
  on_kick = [this] { use(0, 2); };
  EXPECT_EQ(command().error().code, Errc::kDevice);
}

TEST_F(ControlQueueTest, DataThatDoesNotFitIsNotSent) {
  const std::vector<std::byte> data(4000);
  const std::span<const std::byte> piece = data;
  EXPECT_EQ(queue->command(1, 2, std::span(&piece, 1), Deadline::after(1s)).error().code, Errc::kInvalid);
  EXPECT_EQ(kicks, 0);
}

}  // namespace
}  // namespace upci::driver_tests
