// SPDX-License-Identifier: Apache-2.0
// DMA memory: translated, physical, registered; and that none is freed which a device can still reach.
#include <linux/mempolicy.h>

#include <cerrno>
#include <cstring>

#include "tests/vfio/support.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using device::DmaKind;
using testing::HasSubstr;

using VfioDma = VfioTest;

bool all_zero(const device::DmaMemory& memory) {
  return std::ranges::all_of(std::span(memory.va(), memory.size()),
                             [](std::byte byte) { return byte == std::byte{0}; });
}

TEST_F(VfioDma, TranslatedMemoryIsZeroedMappedAndUnmappedAgain) {
  const auto backend = open();
  {
    auto memory = backend->dma().alloc({.len = 5000, .node = 0});
    ASSERT_TRUE(memory) << memory.error().message();
    EXPECT_EQ((*memory)->size(), 5000U);
    EXPECT_EQ((*memory)->iova() % 4096, 0U);
    EXPECT_TRUE(all_zero(**memory));
    EXPECT_EQ(kernel->dma_mappings(), 1U);
    EXPECT_EQ(kernel->mapped_ever.back().second, 8192U);
  }
  EXPECT_EQ(kernel->dma_mappings(), 0U);
}

TEST_F(VfioDma, HonoursMaskAndAlignment) {
  const auto backend = open();
  const auto memory = backend->dma().alloc({.len = 4096, .align = 65536, .mask = 0xfffffff});
  ASSERT_TRUE(memory);
  EXPECT_LE((*memory)->iova() + 4095, 0xfffffffU);
  EXPECT_EQ((*memory)->iova() % 65536, 0U);
  const auto none = backend->dma().alloc({.len = 4096, .mask = 0xfff});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::kUnavailable);
  EXPECT_NE(none.error().advice, "");
}

TEST_F(VfioDma, NonsenseIsInvalid) {
  const auto backend = open();
  EXPECT_EQ(backend->dma().alloc({.len = 0}).error().code, Errc::kInvalid);
  EXPECT_EQ(backend->dma().alloc({.len = 1, .align = 3}).error().code, Errc::kInvalid);
  EXPECT_EQ(backend->dma().alloc({.len = ~std::size_t{0}}).error().code, Errc::kUnavailable);
}

TEST_F(VfioDma, LargeRequestsTakeHugePagesWhereThereAreSome) {
  kernel->hugepages = 2;
  const auto backend = open();
  const auto first = backend->dma().alloc({.len = 3 << 20});
  ASSERT_TRUE(first);
  EXPECT_EQ(kernel->hugepages, 0U);
  const auto second = backend->dma().alloc({.len = 3 << 20});
  ASSERT_TRUE(second) << "without any, normal pages do";
  EXPECT_EQ(kernel->dma_mappings(), 2U);
}

TEST_F(VfioDma, MemoryIsBoundToTheNodeOrPreferredWhereItHasNoRoom) {
  const auto backend = open();
  ASSERT_TRUE(backend->dma().alloc({.len = 4096, .node = 1}));
  EXPECT_THAT(kernel->policies, testing::ElementsAre(MPOL_BIND));
  kernel->policies.clear();
  kernel->node_free_kib = 100;
  ASSERT_TRUE(backend->dma().alloc({.len = 4096, .node = 1}));
  EXPECT_THAT(kernel->policies, testing::ElementsAre(MPOL_PREFERRED));
  kernel->policies.clear();
  kernel->node_free_kib = 1 << 20;
  kernel->refusals = {{"mbind", EINVAL}};
  ASSERT_TRUE(backend->dma().alloc({.len = 4096, .node = 1}));
  EXPECT_THAT(kernel->policies, testing::ElementsAre(MPOL_BIND, MPOL_PREFERRED));
}

TEST_F(VfioDma, AnOlderKernelsMemoryIsTouched) {
  kernel->populate_known = false;
  const auto backend = open();
  EXPECT_TRUE(backend->dma().alloc({.len = 4096}));
}

TEST_F(VfioDma, TheLimitsOfType1AreNamed) {
  const auto backend = open();
  kernel->most_mappings = 1;
  const auto first = backend->dma().alloc({.len = 1});
  ASSERT_TRUE(first);
  const auto second = backend->dma().alloc({.len = 1});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().sys_errno, ENOSPC);
  EXPECT_THAT(second.error().advice, HasSubstr("65535"));
  kernel->refusals = {{"VFIO_IOMMU_MAP_DMA", ENOMEM}};
  const auto third = backend->dma().alloc({.len = 1});
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, Errc::kUnavailable) << "a limit of the environment's, hence exit code 5";
  EXPECT_THAT(third.error().advice, HasSubstr("ulimit -l"));
}

TEST_F(VfioDma, PhysicalMemoryIsMappedAtItsOwnAddress) {
  const auto backend = open();
  const auto memory = backend->dma().alloc({.len = 4096, .kind = DmaKind::kPhysical});
  ASSERT_TRUE(memory) << memory.error().message();
  EXPECT_EQ((*memory)->iova(), kernel->physical((*memory)->va()));
  EXPECT_EQ(kernel->mapped_ever.back().first, (*memory)->iova());
  EXPECT_THAT(kernel->labels, testing::Contains("mlock"));
}

TEST_F(VfioDma, AHugePageIsSharedByManyPieces) {
  kernel->hugepages = 1;
  kernel->add("0000:01:00.1");
  const auto backend = open();
  const auto other = open("0000:01:00.1");
  std::vector<std::unique_ptr<device::DmaMemory>> pieces;
  for (int i = 0; i < 20; ++i) {
    auto& dma = i % 2 == 0 ? backend->dma() : other->dma();
    auto piece = dma.alloc({.len = 65536, .kind = DmaKind::kPhysical});
    ASSERT_TRUE(piece);
    for (std::size_t at = 0; at < 65536; at += 4096) {
      ASSERT_EQ((*piece)->iova() + at, kernel->physical((*piece)->va() + at)) << "contiguous throughout";
    }
    std::memset((*piece)->va(), 0x55, 65536);
    pieces.push_back(std::move(*piece));
  }
  EXPECT_EQ(kernel->dma_mappings(), 1U);
  pieces.erase(pieces.begin() + 3, pieces.begin() + 6);
  const auto again = backend->dma().alloc({.len = 65536, .kind = DmaKind::kPhysical});
  ASSERT_TRUE(again);
  EXPECT_TRUE(all_zero(**again)) << "what an earlier owner wrote is gone";
  pieces.clear();
  EXPECT_EQ(kernel->dma_mappings(), 1U);
}

TEST_F(VfioDma, WithoutHugePagesARunOfPagesIsFound) {
  kernel->run_pages = 16;
  const auto backend = open();
  const auto memory = backend->dma().alloc({.len = 16 * 4096, .kind = DmaKind::kPhysical});
  ASSERT_TRUE(memory) << memory.error().message();
  for (std::size_t at = 0; at < (*memory)->size(); at += 4096) {
    ASSERT_EQ((*memory)->iova() + at, kernel->physical((*memory)->va() + at));
  }
  const std::size_t before = kernel->mapped_pages();
  const auto larger = backend->dma().alloc({.len = 17 * 4096, .kind = DmaKind::kPhysical});
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.error().code, Errc::kUnavailable);
  EXPECT_THAT(larger.error().advice, HasSubstr("nr_hugepages"));
  EXPECT_EQ(kernel->mapped_pages(), before) << "what was looked through is given back";
}

TEST_F(VfioDma, PhysicalMemoryStaysBelowTheMask) {
  const auto backend = open();
  const auto none = backend->dma().alloc({.len = 4096, .mask = 0xffffffff, .kind = DmaKind::kPhysical});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::kUnavailable);
  kernel->next_physical = 0x40000000;
  const auto low = backend->dma().alloc({.len = 4096, .mask = 0xffffffff, .kind = DmaKind::kPhysical});
  ASSERT_TRUE(low);
  EXPECT_LE((*low)->iova(), 0xffffffffU);
}

TEST_F(VfioDma, WithoutFrameNumbersTheNeededRightIsNamed) {
  kernel->frame_numbers = false;
  const auto backend = open();
  const auto memory = backend->dma().alloc({.len = 4096, .kind = DmaKind::kPhysical});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::kUnavailable);
  EXPECT_THAT(memory.error().advice, HasSubstr("CAP_SYS_ADMIN"));
}

TEST_F(VfioDma, APhysicalAddressThatIsTakenAsAnIovaIsPassedOver) {
  const auto backend = open();
  const auto translated = backend->dma().alloc({.len = 4096});
  ASSERT_TRUE(translated);
  // The next page would lie exactly there.
  kernel->next_physical = (*translated)->iova();
  kernel->run_pages = 512;
  const auto physical = backend->dma().alloc({.len = 4096, .kind = DmaKind::kPhysical});
  EXPECT_FALSE(physical) << "all that follows is above the usable range";
  kernel->next_physical = (*translated)->iova() - 4 * (2 << 20);
  const auto below = backend->dma().alloc({.len = 4096, .kind = DmaKind::kPhysical});
  ASSERT_TRUE(below) << below.error().message();
  EXPECT_NE((*below)->iova(), (*translated)->iova());
}

TEST_F(VfioDma, PagesThatAreMovedByThePinAreNotUsed) {
  const auto backend = open();
  kernel->moves_when_pinned = true;
  const auto memory = backend->dma().alloc({.len = 4096, .kind = DmaKind::kPhysical});
  ASSERT_TRUE(memory) << memory.error().message();
  EXPECT_EQ((*memory)->iova(), kernel->physical((*memory)->va()));
  EXPECT_EQ(kernel->mapped_ever.size(), 2U);
  EXPECT_EQ(kernel->dma_mappings(), 1U);
}

TEST_F(VfioDma, ForeignMemoryIsRegisteredByWholePages) {
  const auto backend = open();
  alignas(4096) static std::byte page[8192];
  {
    const auto registered = backend->dma().register_memory(page, {});
    ASSERT_TRUE(registered) << registered.error().message();
    EXPECT_EQ((*registered)->va(), page);
    EXPECT_EQ(kernel->dma_mappings(), 1U);
  }
  EXPECT_EQ(kernel->dma_mappings(), 0U);
  EXPECT_EQ(backend->dma().register_memory(std::span(page).subspan(1), {}).error().code, Errc::kInvalid);
  EXPECT_EQ(backend->dma().register_memory({}, {}).error().code, Errc::kInvalid);
  EXPECT_EQ(backend->dma().register_memory(page, {.kind = DmaKind::kPhysical}).error().code, Errc::kUnavailable);
}

TEST_F(VfioDma, WhatTheKernelDoesNotUnmapIsKeptAndItsAddressNeverUsedAgain) {
  expect_clean = false;
  const auto backend = open();
  std::uint64_t lost = 0;
  kernel->short_unmap = true;
  for (const DmaKind kind : {DmaKind::kTranslated, DmaKind::kPhysical}) {
    auto memory = backend->dma().alloc({.len = 4096, .kind = kind});
    ASSERT_TRUE(memory);
    lost = (*memory)->iova();
    const std::size_t pages = kernel->mapped_pages();
    memory->reset();
    EXPECT_EQ(kernel->mapped_pages(), pages) << "the memory is not freed";
  }
  kernel->short_unmap = false;
  kernel->next_physical = lost;
  const auto next = backend->dma().alloc({.len = 4096, .kind = DmaKind::kPhysical});
  ASSERT_TRUE(next);
  EXPECT_NE((*next)->iova(), lost);
  EXPECT_EQ(kernel->dma_mappings(), 3U);
}

TEST_F(VfioDma, MemoryOutlivesTheFunctionAndItsGroup) {
  auto backend = open();
  auto translated = backend->dma().alloc({.len = 4096}).value();
  auto physical = backend->dma().alloc({.len = 4096, .kind = DmaKind::kPhysical}).value();
  backend.reset();
  EXPECT_EQ(kernel->dma_mappings(), 0U) << "leaving the group has unmapped all";
  std::memset(translated->va(), 1, 4096);
  std::memset(physical->va(), 1, 4096);
  // The function can be opened again, in a container of its own.
  EXPECT_TRUE(open());
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
