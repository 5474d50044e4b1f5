// SPDX-License-Identifier: Apache-2.0
// Contents of disks that can be checked byte by byte, and a model of what a disk should hold.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "drivers/virtio_blk/disk.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

inline constexpr std::size_t kSector = 512;

/// Bytes that follow from the sector that they are in and from how often it was written.
inline void fill_sectors(std::span<std::byte> bytes, std::uint64_t sector, std::uint32_t version) {
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    std::uint64_t value = (sector + i / kSector) * 0x9e37'79b9'7f4a'7c15ULL + version * 0x1000'0001'b3ULL + i % kSector;
    value ^= value >> 29U;
    std::memcpy(bytes.data() + i, &value, 8);
  }
}

/// What was written where, by random operations of this test; the rest reads as zeroes.
class DiskModel {
 public:
  explicit DiskModel(std::uint64_t sectors) : versions_(sectors, 0) {}

  std::vector<std::byte> write(std::uint64_t sector, std::size_t sectors) {
    ++version_;
    std::vector<std::byte> bytes(sectors * kSector);
    fill_sectors(bytes, sector, version_);
    for (std::size_t i = 0; i < sectors; ++i) versions_[sector + i] = version_;
    return bytes;
  }
  void zero(std::uint64_t sector, std::uint64_t sectors) {
    for (std::uint64_t i = 0; i < sectors; ++i) versions_[sector + i] = 0;
  }
  /// The first sector that is not as it should be, or -1.
  std::int64_t first_wrong(std::uint64_t sector, std::span<const std::byte> bytes) const {
    for (std::size_t i = 0; i < bytes.size() / kSector; ++i) {
      std::vector<std::byte> should(kSector, std::byte{0});
      if (versions_[sector + i] != 0) fill_sectors(should, sector + i, versions_[sector + i]);
      if (std::memcmp(should.data(), bytes.data() + i * kSector, kSector) != 0)
        return static_cast<std::int64_t>(sector + i);
    }
    return -1;
  }
  std::uint64_t sectors() const noexcept { return versions_.size(); }

 private:
  std::vector<std::uint32_t> versions_;
  std::uint32_t version_ = 0;
};

/// `count` random writes and reads in batches of up to eight, spread over the queues; reads are checked, and all of the disk's
/// touched part at the end.
inline void check_random_io(virtio_blk::Disk& disk, DiskModel& model, unsigned count, unsigned seed) {
  std::mt19937 random(seed);
  constexpr std::size_t kMost = 300;  // sectors: longer than one request
  constexpr std::size_t kLane = 1024;
  for (unsigned done = 0; done < count;) {
    std::vector<virtio_blk::Io> batch;
    std::vector<std::vector<std::byte>> buffers;
    buffers.reserve(8);
    const unsigned size = 1 + random() % 8;
    // Operations of a batch may end in any order: each has a part of the disk of its own.
    for (unsigned i = 0; i < size; ++i, ++done) {
      const std::size_t sectors = 1 + (random() % 4 == 0 ? random() % kMost : random() % 16);
      const std::uint64_t sector = i * kLane + random() % (kLane - sectors);
      if (random() % 2 == 0) {
        buffers.push_back(model.write(sector, sectors));
        batch.push_back({.op = virtio_blk::Io::Op::kWrite, .sector = sector, .from = buffers.back()});
      } else {
        buffers.emplace_back(sectors * kSector, std::byte{0xee});
        batch.push_back({.op = virtio_blk::Io::Op::kRead, .sector = sector, .into = buffers.back()});
      }
    }
    const int queue = static_cast<int>(random() % (disk.info().queues + 1U)) - 1;
    disk.run(batch, Deadline::after(std::chrono::seconds(20)), queue);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      ASSERT_TRUE(batch[i].result) << batch[i].result.error().message();
      if (batch[i].op == virtio_blk::Io::Op::kRead) {
        ASSERT_EQ(model.first_wrong(batch[i].sector, batch[i].into), -1) << "seed " << seed << " after " << done;
      }
    }
  }
  std::vector<std::byte> all(8 * kLane * kSector);
  auto read = disk.read(0, all, Deadline::after(std::chrono::seconds(20)));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(model.first_wrong(0, all), -1) << "seed " << seed;
}

}  // namespace upci::inline UPCI_VARIANT::driver_tests
