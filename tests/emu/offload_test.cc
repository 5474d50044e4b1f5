// SPDX-License-Identifier: Apache-2.0
// What the card understands of a header, and what it makes of a frame: the card that does it is in on_request_test.cc of
// tests/drivers.
#include "emulation/emu/offload.h"

#include <gtest/gtest.h>

#include <functional>

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace net = virtio::spec::net;

/// A UDP datagram over IPv4 with this much payload, to be cut into pieces of 100.
Frame to_be_cut(std::size_t payload) {
  Frame frame{.bytes = std::vector<std::byte>(42 + payload)};
  frame.bytes[12] = std::byte{0x08};
  frame.bytes[14] = std::byte{0x45};
  frame.bytes[23] = std::byte{17};
  frame.header = {.flags = net::kHeaderNeedsCsum,
                  .gso_type = net::kGsoUdpL4,
                  .hdr_len = 42,
                  .gso_size = 100,
                  .csum_start = 34,
                  .csum_offset = 6,
                  .num_buffers = 0};
  return frame;
}

TEST(EmuOffload, APayloadIsCutIntoPiecesOfWhichTheLastIsTheRest) {
  EXPECT_EQ(misfit(to_be_cut(250)), "");
  std::vector<std::size_t> sizes;
  for (const Frame& piece : finish(to_be_cut(250))) {
    sizes.push_back(piece.bytes.size());
    EXPECT_TRUE(piece.finished());
  }
  EXPECT_EQ(sizes, (std::vector<std::size_t>{142, 142, 92}));
  EXPECT_EQ(finish(to_be_cut(200)).size(), 2U);
  EXPECT_EQ(finish(to_be_cut(100)).size(), 1U);
  EXPECT_EQ(finish(to_be_cut(0)).size(), 1U);
}

TEST(EmuOffload, AChecksumOfZeroIsSentAsAllOnes) {
  Frame frame{.bytes = std::vector<std::byte>(60, std::byte{0})};
  frame.bytes[40] = frame.bytes[41] = std::byte{0xff};
  frame.header = {.flags = net::kHeaderNeedsCsum,
                  .gso_type = 0,
                  .hdr_len = 0,
                  .gso_size = 0,
                  .csum_start = 34,
                  .csum_offset = 6,
                  .num_buffers = 0};
  const std::vector<Frame> finished = finish(frame);
  ASSERT_EQ(finished.size(), 1U);
  EXPECT_EQ(finished[0].bytes, frame.bytes);
}

TEST(EmuOffload, WhatDoesNotFitTheFrameIsSeen) {
  const struct {
    std::string_view says;
    std::function<void(Frame&)> wrong;
  } cases[] = {
      {"NEEDS_CSUM", [](Frame& frame) { frame.header.flags = 0; }},
      {"behind its end", [](Frame& frame) { frame.header.csum_start = 1000; }},
      {"behind its end", [](Frame& frame) { frame.header.csum_offset = 0xffff; }},
      {"does not know", [](Frame& frame) { frame.header.gso_type = net::kGsoTcp4; }},
      {"no bytes", [](Frame& frame) { frame.header.gso_size = 0; }},
      {"no UDP", [](Frame& frame) { frame.header.csum_offset = 4; }},
      {"no UDP", [](Frame& frame) { frame.header.csum_start = 30; }},
      {"no UDP", [](Frame& frame) { frame.bytes[12] = std::byte{0x99}; }},
      {"no UDP", [](Frame& frame) { frame.bytes[23] = std::byte{6}; }},
      {"behind its end", [](Frame& frame) { frame.bytes.resize(41); }},
      {"no UDP",
       [](Frame& frame) {  // IPv6, whose header is longer
         frame.bytes[12] = std::byte{0x86};
         frame.bytes[13] = std::byte{0xdd};
       }},
  };
  for (const auto& one : cases) {
    Frame frame = to_be_cut(250);
    one.wrong(frame);
    EXPECT_NE(misfit(frame).find(one.says), std::string_view::npos) << one.says << ": " << misfit(frame);
  }
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::emulation::emu
