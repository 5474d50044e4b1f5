// SPDX-License-Identifier: Apache-2.0
// What `upci net test` counts, over a card whose wire this test is.
#include "tools/upci/net_flow.h"

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <vector>

#include "tools/upci/net_frame.h"
#include "tools/upci/net_traffic.h"

namespace upci::tool {
namespace {

using virtio_net::Nic;
using virtio_net::Packet;

/// A card with a pool and a ring of its own; what is sent lies in `wire` until the test does something with it.
class WireNic final : public Nic {
 public:
  static constexpr std::size_t kPool = 64;
  static constexpr std::uint16_t kSlots = 16;

  WireNic() {
    for (std::size_t i = 0; i < kPool; ++i) {
      packets_[i].data = memory_[i].data();
      packets_[i].capacity = kLargestFrame;
      free_.push_back(&packets_[i]);
    }
  }
  using Nic::alloc;
  using Nic::free;
  std::deque<Packet*> wire;

  Result<void> quiesce(Deadline /*deadline*/) override { return {}; }
  Result<void> start(Deadline /*deadline*/) override { return {}; }
  Mac mac() const override { return {2, 0, 0, 0, 0, 1}; }
  bool link_up() const override { return true; }
  Result<bool> update_link(Deadline /*deadline*/) override { return true; }
  std::uint16_t mtu() const override { return 1500; }
  std::uint16_t rx_slots() const override { return kSlots; }
  std::uint16_t tx_slots() const override { return kSlots; }
  std::size_t alloc(std::span<Packet*> packets) override {
    std::size_t n = 0;
    for (; n < packets.size() && !free_.empty(); ++n) {
      packets[n] = free_.back();
      free_.pop_back();
    }
    return n;
  }
  void free(std::span<Packet* const> packets) override { free_.insert(free_.end(), packets.begin(), packets.end()); }
  std::size_t tx_burst(std::span<Packet* const> packets, unsigned /*pair*/) override {
    wire.insert(wire.end(), packets.begin(), packets.end());
    return packets.size();
  }
  std::size_t rx_burst(std::span<Packet*> packets, unsigned /*pair*/) override {
    std::size_t n = 0;
    for (; n < packets.size() && !wire.empty(); ++n) {
      packets[n] = wire.front();
      wire.pop_front();
    }
    return n;
  }
  Result<void> set_receiver(Receiver /*receiver*/) override { return fail(Errc::kUnavailable, "no interrupts"); }
  Result<void> wait_tx_room(Deadline /*deadline*/, unsigned /*pair*/) override { return {}; }
  std::optional<std::uint32_t> speed() const override { return std::nullopt; }
  std::optional<bool> full_duplex() const override { return std::nullopt; }
  std::uint64_t features() const override { return 0; }
  unsigned queue_pairs() const override { return 1; }
  std::uint32_t packet_bytes() const override { return kLargestFrame; }
  Result<void> set_receive_mode(virtio_net::ReceiveMode, bool, Deadline) override { return no_control(); }
  Result<void> set_mac(const Mac&, Deadline) override { return no_control(); }
  Result<void> set_mac_filter(std::span<const Mac>, std::span<const Mac>, Deadline) override { return no_control(); }
  Result<void> set_vlan(std::uint16_t, bool, Deadline) override { return no_control(); }
  Result<void> set_receive_offloads(std::uint64_t, Deadline) override { return no_control(); }
  Result<void> set_active_pairs(unsigned, Deadline) override { return no_control(); }
  void set_event_handler(EventHandler) override {}
  virtio_net::SteeringLimits steering_limits() const override { return {}; }
  Result<void> set_rss(const virtio_net::Rss&, Deadline) override { return no_control(); }
  Result<void> set_hash_report(std::uint32_t, std::span<const std::uint8_t>, Deadline) override { return no_control(); }
  Result<void> set_moderation(const virtio_net::Moderation&) override { return {}; }
  void set_capture(std::shared_ptr<virtio_net::Capture>) override {}
  std::optional<Error> failed() const override { return std::nullopt; }
  virtio_net::NicStats stats() const override { return {}; }

  std::size_t free_packets() const { return free_.size(); }

 private:
  static Result<void> no_control() { return fail(Errc::kUnavailable, "no control queue"); }

  std::array<std::array<std::byte, kLargestFrame>, kPool> memory_{};
  std::array<Packet, kPool> packets_{};
  std::vector<Packet*> free_;
};

class FlowTest : public testing::Test {
 protected:
  WireNic nic_;
  FrameFormat format_{nic_.mac(), nic_.mac(), 0, {}};
  Flow flow_{nic_, nic_, format_, 100};

  /// Delivers what is on the wire.
  void deliver() {
    const std::vector<Packet*> packets(nic_.wire.begin(), nic_.wire.end());
    nic_.wire.clear();
    flow_.take(packets);
  }
};

TEST_F(FlowTest, NeverHasMoreUnderwayThanTheReceiverHasSlots) {
  while (flow_.send_some() > 0) {}
  EXPECT_EQ(flow_.sent(), WireNic::kSlots);
  EXPECT_TRUE(flow_.window_full());
}

TEST_F(FlowTest, WholeAndInOrderIsAllReceived) {
  while (!flow_.all_sent()) {
    flow_.send_some();
    deliver();
  }
  EXPECT_TRUE(flow_.all_arrived());
  EXPECT_EQ(flow_.received(), 100U);
  EXPECT_EQ(flow_.lost() + flow_.corrupt() + flow_.duplicated() + flow_.reordered(), 0U);
  EXPECT_EQ(nic_.free_packets(), WireNic::kPool) << "each packet is given back";
}

TEST_F(FlowTest, OneChangedBitAnywhereIsCorruptAndNotLost) {
  for (std::size_t at = 0; at < 64; ++at) {
    Flow flow(nic_, nic_, format_, 1);
    ASSERT_EQ(flow.send_some(), 1U);
    nic_.wire.front()->data[at] ^= std::byte{0x10};
    const std::array<Packet*, 1> packets = {nic_.wire.front()};
    nic_.wire.clear();
    flow.take(packets);
    EXPECT_EQ(flow.corrupt(), 1U) << "byte " << at;
    EXPECT_EQ(flow.received(), 0U) << "byte " << at;
    EXPECT_EQ(flow.lost(), 0U) << "byte " << at;
  }
}

TEST_F(FlowTest, AnotherLengthIsCorrupt) {
  for (const std::uint32_t length : {0U, 13U, 63U, 65U}) {
    Flow flow(nic_, nic_, format_, 1);
    ASSERT_EQ(flow.send_some(), 1U);
    nic_.wire.front()->length = length;
    const std::array<Packet*, 1> packets = {nic_.wire.front()};
    nic_.wire.clear();
    flow.take(packets);
    EXPECT_EQ(flow.corrupt(), 1U) << length;
  }
}

TEST_F(FlowTest, MissingIsLost) {
  flow_.send_some();
  const std::uint64_t sent = flow_.sent();
  nic_.free(nic_.wire.front());
  nic_.wire.pop_front();
  deliver();
  EXPECT_EQ(flow_.lost(), 1U);
  EXPECT_EQ(flow_.received(), sent - 1);
  EXPECT_FALSE(flow_.all_arrived());
}

TEST_F(FlowTest, SecondCopyIsDuplicated) {
  flow_.send_some();
  Packet* copy = nullptr;
  ASSERT_EQ(nic_.alloc(std::span(&copy, 1)), 1U);
  std::ranges::copy(nic_.wire.front()->bytes(), copy->data);
  copy->length = nic_.wire.front()->length;
  nic_.wire.push_back(copy);
  deliver();
  EXPECT_EQ(flow_.duplicated(), 1U);
  EXPECT_EQ(flow_.received(), flow_.sent());
  EXPECT_EQ(flow_.lost(), 0U);
}

TEST_F(FlowTest, OvertakenIsOutOfOrder) {
  flow_.send_some();
  std::swap(nic_.wire[0], nic_.wire[1]);
  deliver();
  EXPECT_EQ(flow_.reordered(), 1U);
  EXPECT_EQ(flow_.received(), flow_.sent());
}

TEST_F(FlowTest, FrameOfTheOtherDirectionIsCorrupt) {
  Flow other(nic_, nic_, FrameFormat(nic_.mac(), nic_.mac(), 1, {}), 1);
  flow_.send_some();
  const std::array<Packet*, 1> packets = {nic_.wire.front()};
  nic_.wire.pop_front();
  other.take(packets);
  EXPECT_EQ(other.corrupt(), 1U);
}

TEST_F(FlowTest, WaitEndsWithAnArrivalOrInTime) {
  const std::uint32_t seen = flow_.arrivals();
  const auto until = platform::Clock::now() + std::chrono::milliseconds(5);
  flow_.wait_for_arrival(seen, until);
  EXPECT_GE(platform::Clock::now(), until);
  flow_.send_some();
  deliver();
  flow_.wait_for_arrival(seen, platform::kNever);  // returns at once
}

TEST(Frame, EachByteOfEachSizeIsChecked) {
  const Nic::Mac mac = {2, 0, 0, 0, 0, 9};
  for (const std::size_t size : {kSmallestFrame, std::size_t{61}, std::size_t{512}, kLargestFrame}) {
    const FrameFormat format(mac, mac, 0, {.shortest = size, .longest = size});
    std::vector<std::byte> frame(size);
    format.write(frame, 7);
    EXPECT_EQ(format.read(frame), 7U);
    for (std::size_t at = 0; at < size; ++at) {
      frame[at] ^= std::byte{1};
      EXPECT_NE(format.read(frame), 7U) << "byte " << at << " of " << size;
      frame[at] ^= std::byte{1};
    }
  }
}

TEST(Frame, LengthsOfARangeAreSpreadOverAllOfIt) {
  const Nic::Mac mac = {2, 0, 0, 0, 0, 9};
  const FrameFormat format(mac, mac, 0, {.shortest = 60, .longest = 69});
  std::array<unsigned, 10> counts{};
  for (std::uint64_t sequence = 0; sequence < 1000; ++sequence) {
    std::array<std::byte, 69> frame{};
    const std::size_t size = format.size_of(sequence);
    ASSERT_GE(size, 60U);
    ASSERT_LE(size, 69U);
    ++counts[size - 60];
    format.write(frame, sequence);
    EXPECT_EQ(format.read(std::span(frame).first(size)), sequence);
    EXPECT_EQ(format.read(std::span(frame).first(size == 60 ? 61 : size - 1)), std::nullopt) << "cut short, or padded";
  }
  for (const unsigned count : counts) EXPECT_GT(count, 50U);
}

}  // namespace
}  // namespace upci::tool
