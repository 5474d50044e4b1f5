// SPDX-License-Identifier: Apache-2.0
#include "vfio/iova_allocator.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace upci::inline UPCI_VARIANT::test {
namespace {

using vfio::IovaAllocator;
using vfio::IovaRange;

constexpr std::uint64_t kAll = ~std::uint64_t{0};
constexpr std::uint64_t kPage = 4096;

IovaAllocator make(std::vector<IovaRange> ranges, std::uint64_t granule = kPage) {
  return IovaAllocator::create(std::move(ranges), granule).value();
}

TEST(IovaAllocator, StaysBelowTheMaskAndInsideTheRanges) {
  IovaAllocator iovas = make({{0x1000, 0xffff}, {0x100000000, 0x10000ffff}});
  const auto low = iovas.alloc(0x1000, 1, 0xffffffff);
  ASSERT_TRUE(low);
  EXPECT_EQ(*low, 0xf000U);
  EXPECT_EQ(iovas.alloc(1, 1, kAll), 0x10000f000U);
  EXPECT_EQ(iovas.alloc(0x1000, 1, 0xfff), std::nullopt);
  // The last byte counts, not the first.
  EXPECT_EQ(iovas.alloc(0x2000, 1, 0x2ffe), std::nullopt);
  EXPECT_EQ(iovas.alloc(0x2000, 1, 0x2fff), 0x1000U);
}

TEST(IovaAllocator, AlignsAsAsked) {
  IovaAllocator iovas = make({{0x1000, 0x3fffff}});
  EXPECT_EQ(iovas.alloc(0x1000, 0x200000, kAll), 0x200000U);
  EXPECT_EQ(iovas.alloc(0x1000, 0x200000, kAll), std::nullopt);
  EXPECT_EQ(iovas.alloc(0x1000, 3, kAll), std::nullopt);
}

TEST(IovaAllocator, NeverHandsOutAddressZero) {
  IovaAllocator iovas = make({{0, 0x1fff}});
  EXPECT_EQ(iovas.alloc(0x1000, 1, kAll), 0x1000U);
  EXPECT_EQ(iovas.alloc(0x1000, 1, kAll), std::nullopt);
  EXPECT_FALSE(iovas.reserve(0, 0x1000));
}

TEST(IovaAllocator, PrefersAddressesBelowTwoToThe39) {
  IovaAllocator iovas = make({{0x1000, kAll}});
  const auto first = iovas.alloc(kPage, 1, kAll);
  ASSERT_TRUE(first);
  EXPECT_EQ(*first, (std::uint64_t{1} << 39) - kPage);
  // With that full, the rest is used, up to the very last page of the address space.
  IovaAllocator high = make({{std::uint64_t{1} << 39, kAll}});
  EXPECT_EQ(high.alloc(kPage, 1, kAll), kAll - (kPage - 1));
}

TEST(IovaAllocator, RangesAreTrimmedToWholeGranules) {
  IovaAllocator iovas = make({{0x10001, 0x3fffe}}, 0x10000);
  EXPECT_EQ(iovas.free_bytes(), 0x10000U);
  EXPECT_EQ(iovas.alloc(1, 1, kAll), 0x20000U);
  EXPECT_FALSE(IovaAllocator::create({{0x10001, 0x2fffe}}, 0x10000)) << "no whole granule lies inside";
}

TEST(IovaAllocator, RefusesWhatContradictsItself) {
  EXPECT_FALSE(IovaAllocator::create({{0x2000, 0x1fff}}, kPage));
  EXPECT_FALSE(IovaAllocator::create({{0x1000, 0x3fff}, {0x3000, 0x5fff}}, kPage));
  EXPECT_FALSE(IovaAllocator::create({{0x1000, kAll}, {kAll, kAll}}, kPage));
  EXPECT_FALSE(IovaAllocator::create({{0x1000, 0x3fff}}, 0));
  EXPECT_FALSE(IovaAllocator::create({{0x1000, 0x3fff}}, 3 * kPage));
  EXPECT_FALSE(IovaAllocator::create({}, kPage));
  EXPECT_FALSE(IovaAllocator::create({{0, 0xfff}}, kPage));
  EXPECT_FALSE(IovaAllocator::create({{kAll - 5, kAll}}, kPage));
}

TEST(IovaAllocator, ReservesAPlaceOnce) {
  IovaAllocator iovas = make({{0x1000, 0xffff}});
  EXPECT_TRUE(iovas.reserve(0x4000, 0x2000));
  EXPECT_FALSE(iovas.reserve(0x5000, 0x1000));
  EXPECT_FALSE(iovas.reserve(0x3000, 0x2000));
  EXPECT_FALSE(iovas.reserve(0xf000, 0x2000));
  EXPECT_FALSE(iovas.reserve(0x6001, 0x1000));
  EXPECT_FALSE(iovas.reserve(0x7000, 0));
  EXPECT_FALSE(iovas.reserve(0x1000, kAll - 0xfff));
  EXPECT_TRUE(iovas.free(0x4000));
  EXPECT_TRUE(iovas.reserve(0x1000, 0xf000)) << "what was freed has become one with its neighbours";
}

TEST(IovaAllocator, RetiredPlacesNeverComeBack) {
  IovaAllocator iovas = make({{0x1000, 0x2fff}});
  const std::uint64_t first = iovas.alloc(kPage, 1, kAll).value();
  EXPECT_TRUE(iovas.retire(first));
  EXPECT_EQ(iovas.retired_bytes(), kPage);
  EXPECT_FALSE(iovas.free(first));
  const std::uint64_t second = iovas.alloc(kPage, 1, kAll).value();
  EXPECT_NE(second, first);
  EXPECT_TRUE(iovas.free(second));
  EXPECT_EQ(iovas.alloc(2 * kPage, 1, kAll), std::nullopt);
  EXPECT_FALSE(iovas.reserve(first, kPage));
}

TEST(IovaAllocator, LengthsThatWrapAreRefused) {
  IovaAllocator iovas = make({{0x1000, kAll}});
  EXPECT_EQ(iovas.alloc(kAll, 1, kAll), std::nullopt);
  EXPECT_EQ(iovas.alloc(0, 1, kAll), std::nullopt);
  EXPECT_EQ(iovas.alloc(kPage, std::uint64_t{1} << 63, kAll), std::uint64_t{1} << 63);
}

/// Beside a model that knows each page by itself.
TEST(IovaAllocator, AgreesWithASimpleModel) {
  for (unsigned seed = 1; seed <= 40; ++seed) {
    std::mt19937 random(seed);
    const std::vector<IovaRange> ranges = {{0x1000, 0x1ffff}, {0x30000, 0x3ffff}, {0x40000, 0x4ffff}};
    IovaAllocator iovas = make(ranges);
    std::set<std::uint64_t> free;  // pages
    for (const IovaRange& range : ranges) {
      for (std::uint64_t page = range.first; page < range.last; page += kPage) free.insert(page);
    }
    std::map<std::uint64_t, std::uint64_t> taken;
    const auto fits = [&](std::uint64_t start, std::uint64_t len) {
      for (std::uint64_t page = start; page < start + len; page += kPage) {
        if (!free.contains(page)) return false;
      }
      return true;
    };
    for (int step = 0; step < 600; ++step) {
      const std::uint64_t len = kPage * (1 + random() % 6);
      switch (random() % 4) {
        case 0:
        case 1: {
          const std::uint64_t align = kPage << random() % 5;
          const std::uint64_t mask = random() % 2 == 0 ? kAll : random() % 0x60000;
          std::uint64_t best = 0;
          for (const std::uint64_t page : free) {
            if (page % align == 0 && page + len - 1 <= mask && fits(page, len)) best = page;
          }
          const auto got = iovas.alloc(len - random() % kPage, align, mask);
          ASSERT_EQ(got.value_or(0), best) << "seed " << seed << " step " << step;
          if (!got) break;
          for (std::uint64_t page = best; page < best + len; page += kPage) free.erase(page);
          taken[best] = len;
          break;
        }
        case 2: {
          const std::uint64_t start = random() % 0x60 * kPage;
          ASSERT_EQ(iovas.reserve(start, len), fits(start, len)) << "seed " << seed << " step " << step;
          if (!fits(start, len)) break;
          for (std::uint64_t page = start; page < start + len; page += kPage) free.erase(page);
          taken[start] = len;
          break;
        }
        default: {
          if (taken.empty()) break;
          auto part = std::next(taken.begin(), static_cast<std::ptrdiff_t>(random() % taken.size()));
          const bool retire = random() % 16 == 0;
          ASSERT_TRUE(retire ? iovas.retire(part->first) : iovas.free(part->first));
          for (std::uint64_t page = part->first; !retire && page < part->first + part->second; page += kPage)
            free.insert(page);
          taken.erase(part);
        }
      }
      ASSERT_EQ(iovas.free_bytes(), free.size() * kPage);
    }
  }
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
