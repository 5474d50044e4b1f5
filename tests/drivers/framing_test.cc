// SPDX-License-Identifier: Apache-2.0
// The virtio header in front of a frame: each byte of it is the driver's, whatever lay there before.
#include "drivers/virtio_net/framing.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "tests/virtio/fake_transport.h"

namespace upci::driver_tests {
namespace {

using virtio_net::Framing;
using virtio_net::Packet;
namespace feature = virtio::spec::net_feature;

struct Header {
  std::string name;
  std::uint64_t features = 0;
  std::uint32_t bytes = 0;
};

class FramingTest : public testing::TestWithParam<Header> {
 protected:
  FramingTest() {
    packet.data = memory.data() + kFront;
    packet.iova = 0x1000 + kFront;
    packet.capacity = 128;
    packet.length = 60;
  }
  Framing framing() {
    const virtio::Device device{std::make_shared<virtio_tests::FakeTransport>(virtio_tests::FakeDevice::make()),
                                virtio::spec::mask_of(virtio::spec::feature::kVersion1) | GetParam().features};
    return Framing(device);
  }
  static constexpr std::size_t kFront = 128;
  alignas(64) std::array<std::byte, 256> memory{};
  Packet packet;
};
INSTANTIATE_TEST_SUITE_P(Headers, FramingTest,
                         testing::Values(Header{"Plain", 0, 12},
                                         Header{"Merged", virtio::spec::mask_of(feature::kMrgRxbuf), 12},
                                         Header{"WithHash", virtio::spec::mask_of(feature::kHashReport), 20}),
                         [](const testing::TestParamInfo<Header>& header) { return header.param.name; });

TEST_P(FramingTest, EachByteOfASentHeaderIsWrittenAndNoOther) {
  const Framing framing = this->framing();
  ASSERT_EQ(framing.header_bytes(), GetParam().bytes);
  const virtio_net::Offload offloads[] = {{},
                                          {.flags = 1,
                                           .gso_type = 2,
                                           .header_bytes = 0x1234,
                                           .gso_size = 0x2345,
                                           .csum_start = 0x3456,
                                           .csum_offset = 0x4567}};
  for (const virtio_net::Offload& offload : offloads) {
    for (const int before : {0xff, 0x00}) {
      memory.fill(static_cast<std::byte>(before));
      packet.offload = offload;
      const virtio::Segment segment = framing.transmit_segment(packet);
      EXPECT_EQ(segment.iova, packet.iova - GetParam().bytes);
      EXPECT_EQ(segment.len, GetParam().bytes + 60);
      EXPECT_FALSE(segment.device_writes);
      // The offloads, and then zeros: num_buffers, and of the hash everything.
      std::array<std::byte, 20> expected{};
      std::memcpy(expected.data(), &offload, sizeof offload);
      const std::byte* const header = packet.data - GetParam().bytes;
      for (std::size_t i = 0; i < GetParam().bytes; i++) EXPECT_EQ(header[i], expected[i]) << i;
      for (std::size_t i = 0; i < kFront - GetParam().bytes; i++) ASSERT_EQ(memory[i], static_cast<std::byte>(before));
      for (std::size_t i = kFront; i < memory.size(); i++) ASSERT_EQ(memory[i], static_cast<std::byte>(before));
    }
  }
}

TEST_P(FramingTest, AReceiveBufferIsOneSegmentWithItsHeader) {
  const virtio::Segment segment = framing().receive_segment(packet);
  EXPECT_EQ(segment.iova, packet.iova - GetParam().bytes);
  EXPECT_EQ(segment.len, GetParam().bytes + packet.capacity);
  EXPECT_TRUE(segment.device_writes);
}

}  // namespace
}  // namespace upci::driver_tests
