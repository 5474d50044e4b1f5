// SPDX-License-Identifier: Apache-2.0
// DMA memory: the allocator over the guest's RAM, and a device that reads and writes it.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "emulation/guest_ram.h"
#include "tests/qemu/support.h"

namespace upci::qemu_tests {
namespace {

using emulation::GuestRam;
using Memory = std::unique_ptr<device::DmaMemory>;

constexpr std::size_t kMiB = 1 << 20;

class GuestRamTest : public testing::Test {
 protected:
  Memory get(std::size_t len, std::size_t align = 4096, std::uint64_t mask = ~std::uint64_t{0}) {
    Result<Memory> memory = ram_->alloc({.len = len, .align = align, .mask = mask});
    return memory ? std::move(*memory) : nullptr;
  }
  Errc refusal(std::size_t len, std::size_t align = 4096, std::uint64_t mask = ~std::uint64_t{0}) {
    Result<Memory> memory = ram_->alloc({.len = len, .align = align, .mask = mask});
    EXPECT_FALSE(memory);
    return memory ? Errc::kState : memory.error().code;
  }
  std::shared_ptr<GuestRam> ram_ = std::move(*GuestRam::create(4 * kMiB));
};

TEST_F(GuestRamTest, MemoryIsZeroedAlignedAndAboveTheFirstMiB) {
  for (const std::size_t align : {1UL, 64UL, 4096UL, 65536UL, 1UL << 20}) {
    const Memory memory = get(100, align);
    ASSERT_TRUE(memory);
    EXPECT_EQ(memory->iova() % align, 0U);
    EXPECT_GE(memory->iova(), kMiB);
    EXPECT_EQ(memory->size(), 100U);
    EXPECT_TRUE(std::all_of(memory->va(), memory->va() + 100, [](std::byte b) { return b == std::byte{0}; }));
    std::memset(memory->va(), 0xff, 100);
  }
}

TEST_F(GuestRamTest, LiveMemoryNeverOverlaps) {
  std::vector<Memory> live;
  for (std::size_t i = 0; i < 200; ++i) {
    live.push_back(get(1 + i * 37 % 5000, std::size_t{1} << (i % 13)));
    ASSERT_TRUE(live.back());
    if (i % 3 == 0) live.erase(live.begin() + static_cast<std::ptrdiff_t>(live.size() / 2));
  }
  std::ranges::sort(live, {}, [](const Memory& memory) { return memory->iova(); });
  for (std::size_t i = 1; i < live.size(); ++i) {
    EXPECT_LE(live[i - 1]->iova() + live[i - 1]->size(), live[i]->iova());
  }
}

TEST_F(GuestRamTest, FreedMemoryIsJoinedAndUsedAgain) {
  ASSERT_TRUE(get(3 * kMiB));  // and freed at once
  {
    std::vector<Memory> parts;
    for (int i = 0; i < 3; ++i) parts.push_back(get(kMiB));
    ASSERT_TRUE(parts[2]);
    EXPECT_EQ(refusal(64, 64), Errc::kUnavailable);
    parts.erase(parts.begin() + 1);
    EXPECT_TRUE(get(kMiB));
    EXPECT_EQ(refusal(kMiB + 1), Errc::kUnavailable);
  }
  EXPECT_TRUE(get(3 * kMiB)) << "the parts are one again";
}

TEST_F(GuestRamTest, TheMaskBoundsTheLastByte) {
  const Memory low = get(kMiB, 4096, 2 * kMiB - 1);
  ASSERT_TRUE(low);
  EXPECT_EQ(low->iova(), kMiB);
  EXPECT_EQ(refusal(64, 64, 2 * kMiB - 1), Errc::kUnavailable) << "there is room, but above the mask";
  EXPECT_EQ(refusal(64, 64, kMiB - 1), Errc::kUnavailable);
  EXPECT_TRUE(get(64, 64, 2 * kMiB + 63));
}

TEST_F(GuestRamTest, ImpossibleRequestsAreRefused) {
  EXPECT_EQ(refusal(0), Errc::kInvalid);
  EXPECT_EQ(refusal(64, 0), Errc::kInvalid);
  EXPECT_EQ(refusal(64, 48), Errc::kInvalid);
  EXPECT_EQ(refusal(~std::size_t{0}), Errc::kUnavailable);
  EXPECT_EQ(refusal(64, std::size_t{1} << 63), Errc::kUnavailable);
  EXPECT_EQ(refusal(4 * kMiB), Errc::kUnavailable);
  std::array<std::byte, 64> foreign{};
  EXPECT_EQ(ram_->register_memory(foreign, {.len = 64}).error().code, Errc::kUnavailable);
  EXPECT_EQ(GuestRam::create(12345).error().code, Errc::kInvalid);
  EXPECT_EQ(GuestRam::create(std::size_t{4} << 30).error().code, Errc::kInvalid);
}

TEST_F(GuestRamTest, MemoryOutlivesItsSpace) {
  const Memory memory = get(4096);
  ASSERT_TRUE(memory);
  ram_.reset();
  memory->va()[4095] = std::byte{1};
  EXPECT_EQ(memory->va()[4095], std::byte{1});
}

TEST(QemuDma, TheDeviceReadsAndWritesTheMemory) {
  const auto backend = open_or_fail("edu");
  ASSERT_TRUE(backend);
  const auto from = backend->dma().alloc({.len = 4096, .mask = 0x0fffffff});
  const auto to = backend->dma().alloc({.len = 4096, .mask = 0x0fffffff});
  ASSERT_TRUE(from && to);
  const std::string text = "through the device and back";
  std::memcpy((*from)->va(), text.data(), text.size());
  const auto transfer = [&backend, &text](std::uint64_t source, std::uint64_t target, std::uint64_t command) {
    backend->bar_write(0, edu::kDmaSource, 8, source);
    backend->bar_write(0, edu::kDmaTarget, 8, target);
    backend->bar_write(0, edu::kDmaCount, 8, text.size());
    backend->bar_write(0, edu::kDmaCommand, 8, edu::kDmaStart | command);
    const Deadline deadline = Deadline::after(std::chrono::seconds(5));
    while ((backend->bar_read(0, edu::kDmaCommand, 8) & edu::kDmaStart) != 0 && !deadline.expired()) {}
  };
  transfer((*from)->iova(), edu::kDmaBuffer, 0);
  transfer(edu::kDmaBuffer, (*to)->iova(), edu::kDmaToMemory);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>((*to)->va()), text.size()), text);
}

TEST(QemuDma, MemoryOutlivesTheDevice) {
  Memory memory;
  {
    const auto backend = open_or_fail("edu");
    ASSERT_TRUE(backend);
    memory = std::move(*backend->dma().alloc({.len = 4096}));
  }
  EXPECT_TRUE(qemu_children().empty());
  memory->va()[0] = std::byte{7};
  EXPECT_EQ(memory->va()[0], std::byte{7});
}

}  // namespace
}  // namespace upci::qemu_tests
