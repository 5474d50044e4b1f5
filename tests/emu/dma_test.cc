// SPDX-License-Identifier: Apache-2.0
// The memory that an emulated device reaches.
#include <array>
#include <bit>
#include <cstring>

#include "emulation/emu/dma.h"
#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using device::DmaKind;
using emu::DmaAccess;
using emu::EmulatedDmaSpace;

TEST(EmuDma, MemoryIsZeroedAlignedAndReachedByItsIovaOnly) {
  each_run(
      [] {
        EmulatedDmaSpace space;
        auto memory = space.alloc({.len = 10000, .align = 8192});
        ASSERT_TRUE(memory);
        EXPECT_EQ((*memory)->size(), 10000U);
        EXPECT_EQ((*memory)->iova() % 8192, 0U);
        for (std::size_t i = 0; i < 10000; ++i) ASSERT_EQ((*memory)->va()[i], std::byte{0});

        const DmaAccess dma(space.table(), DmaKind::kTranslated);
        const std::uint64_t iova = (*memory)->iova();
        EXPECT_EQ(dma.at(iova, 10000), (*memory)->va());
        EXPECT_EQ(dma.at(iova + 9999, 1), (*memory)->va() + 9999);
        EXPECT_EQ(dma.at(iova, 10001), nullptr) << "longer than the memory";
        EXPECT_EQ(dma.at(iova + 9999, 2), nullptr);
        EXPECT_EQ(dma.at(iova - 1, 1), nullptr);
        EXPECT_EQ(dma.at(iova, ~std::uint64_t{0}), nullptr) << "a length that wraps around";
        EXPECT_EQ(dma.at(iova + 1, 2, 2), nullptr) << "not aligned";
        const std::uint64_t va = std::bit_cast<std::uintptr_t>((*memory)->va());
        EXPECT_EQ(dma.at(va, 1), nullptr);
        EXPECT_NE(dma.why_not(va, 1).find("an address of the process"), std::string::npos) << dma.why_not(va, 1);
      },
      1);
}

TEST(EmuDma, TranslatedAndPhysicalAddressesAreNotMixed) {
  each_run(
      [] {
        EmulatedDmaSpace space;
        auto physical = space.alloc({.len = 4096, .kind = DmaKind::kPhysical});
        ASSERT_TRUE(physical);
        {
          const DmaAccess dma(space.table(), DmaKind::kTranslated);
          EXPECT_EQ(dma.at((*physical)->iova(), 1), nullptr);
          EXPECT_NE(dma.why_not((*physical)->iova(), 1).find("physical"), std::string::npos);
        }
        const DmaAccess dma(space.table(), DmaKind::kPhysical);
        EXPECT_NE(dma.at((*physical)->iova(), 4096), nullptr);
      },
      1);
}

TEST(EmuDma, TheMaskIsKept) {
  each_run(
      [] {
        EmulatedDmaSpace space;
        for (const DmaKind kind : {DmaKind::kTranslated, DmaKind::kPhysical}) {
          auto below4g = space.alloc({.len = 8192, .mask = 0xffff'ffff, .kind = kind});
          ASSERT_TRUE(below4g) << below4g.error().message();
          EXPECT_LE((*below4g)->iova() + 8191, 0xffff'ffffU);
          auto nowhere = space.alloc({.len = 8192, .mask = 0xffff, .kind = kind});
          ASSERT_FALSE(nowhere);
          EXPECT_EQ(nowhere.error().code, Errc::kUnavailable);
        }
      },
      1);
}

TEST(EmuDma, NonsenseIsInvalid) {
  each_run(
      [] {
        EmulatedDmaSpace space;
        EXPECT_EQ(space.alloc({.len = 0}).error().code, Errc::kInvalid);
        EXPECT_EQ(space.alloc({.len = 16, .align = 48}).error().code, Errc::kInvalid);
        EXPECT_EQ(space.alloc({.len = 16, .align = 0}).error().code, Errc::kInvalid);
        EXPECT_EQ(space.register_memory({}, {}).error().code, Errc::kInvalid);
      },
      1);
}

TEST(EmuDma, FreedMemoryIsOutOfReachAndItsAddressIsNotGivenOutAgainAtOnce) {
  each_run(
      [] {
        EmulatedDmaSpace space;
        auto first = space.alloc({.len = 4096});
        ASSERT_TRUE(first);
        const std::uint64_t iova = (*first)->iova();
        first->reset();
        {
          const DmaAccess dma(space.table(), DmaKind::kTranslated);
          EXPECT_EQ(dma.at(iova, 1), nullptr);
        }
        auto second = space.alloc({.len = 4096});
        ASSERT_TRUE(second);
        EXPECT_NE((*second)->iova(), iova);
      },
      1);
}

TEST(EmuDma, AllocationsDoNotOverlap) {
  each_run(
      [] {
        EmulatedDmaSpace space;
        std::vector<std::unique_ptr<device::DmaMemory>> kept;
        for (std::size_t i = 1; i <= 60; ++i) {
          auto memory = space.alloc({.len = i * 1000, .align = std::size_t{1} << (i % 15)});
          ASSERT_TRUE(memory);
          if (i % 3 != 0) kept.push_back(std::move(*memory));
        }
        for (const auto& one : kept) {
          for (const auto& other : kept) {
            if (one == other) continue;
            const bool apart =
                one->iova() + one->size() <= other->iova() || other->iova() + other->size() <= one->iova();
            EXPECT_TRUE(apart);
          }
        }
      },
      1);
}

TEST(EmuDma, RegisteredMemoryIsReachedWhileItIsRegistered) {
  each_run(
      [] {
        EmulatedDmaSpace space;
        alignas(64) std::array<std::byte, 256> memory{};
        auto registered = space.register_memory(memory, {.align = 64});
        ASSERT_TRUE(registered) << registered.error().message();
        const std::uint64_t iova = (*registered)->iova();
        EXPECT_EQ((*registered)->va(), memory.data());
        EXPECT_EQ(iova % 64, 0U);
        {
          const DmaAccess dma(space.table(), DmaKind::kTranslated);
          EXPECT_EQ(dma.at(iova, memory.size()), memory.data());
        }
        registered->reset();
        const DmaAccess dma(space.table(), DmaKind::kTranslated);
        EXPECT_EQ(dma.at(iova, 1), nullptr);
      },
      1);
}

TEST(EmuDma, MemoryMayOutliveTheDevice) {
  each_run(
      [] {
        auto device = open_device();
        ASSERT_NE(device, nullptr);
        auto memory = device->dma().alloc({.len = 64});
        ASSERT_TRUE(memory);
        device.reset();
        std::memset((*memory)->va(), 1, 64);  // the address sanitizer would see memory that is gone
        EXPECT_EQ((*memory)->va()[63], std::byte{1});
      },
      3);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
