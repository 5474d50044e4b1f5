// SPDX-License-Identifier: Apache-2.0
// The disk driver on QEMU's virtio-blk-pci: each interface and ring, contents, queues, limits, geometry.
#include <sys/stat.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "drivers/virtio_blk/disk.h"
#include "tests/drivers/disk_pattern.h"
#include "tests/drivers/qemu_bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using virtio_blk::Disk;
using virtio_blk::Io;

Deadline soon() { return Deadline::after(20s); }

const Words kModern = {{"disable-legacy", "on"}};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

class QemuBlk : public testing::TestWithParam<RingCase> {};
INSTANTIATE_TEST_SUITE_P(Disks, QemuBlk, testing::ValuesIn(ring_cases()), ring_case_name);

TEST_P(QemuBlk, WhatIsWrittenIsReadByInterruptAndPolled) {
  QemuBench bench;
  bench.open("virtio-blk-pci", with(GetParam().words(), {{"serial", "upci-disk"}}), options_of(GetParam()));
  if (HasFatalFailure()) return;
  auto* disk = bench.find<Disk>();
  ASSERT_NE(disk, nullptr);
  EXPECT_EQ(bench.negotiated("VERSION_1"), !GetParam().personality.legacy);
  EXPECT_EQ(bench.negotiated("RING_PACKED"), GetParam().personality.packed);
  EXPECT_EQ(bench.negotiated("INDIRECT_DESC"), GetParam().indirect);
  EXPECT_EQ(bench.negotiated("EVENT_IDX"), GetParam().event_idx);
  for (const char* feature : {"SEG_MAX", "GEOMETRY", "BLK_SIZE", "FLUSH", "TOPOLOGY", "DISCARD", "WRITE_ZEROES"})
    EXPECT_TRUE(bench.negotiated(feature)) << feature;
  EXPECT_FALSE(bench.negotiated("SCSI"));
  EXPECT_EQ(disk->capacity(), (std::uint64_t{64} << 20) / kSector);
  EXPECT_FALSE(disk->info().read_only);
  EXPECT_TRUE(disk->info().write_cache);
  const auto serial = disk->serial(soon());
  ASSERT_TRUE(serial) << serial.error().message();
  EXPECT_EQ(*serial, "upci-disk");

  DiskModel model(disk->capacity());
  check_random_io(*disk, model, 60, 1);
  const auto by_interrupt = disk->stats();
  EXPECT_GT(by_interrupt.interrupts.interrupts, 0U);
  EXPECT_EQ(by_interrupt.requests.without_interrupt, 0U);
  disk->set_polling(true);
  check_random_io(*disk, model, 60, 2);

  // Zeroes and discards, checked by reading back: QEMU's raw file reads as zeroes where it was unmapped.
  for (const bool may_unmap : {false, true}) {
    ASSERT_TRUE(disk->write_zeroes(may_unmap ? 100 : 2000, 777, may_unmap, soon()));
    model.zero(may_unmap ? 100 : 2000, 777);
  }
  ASSERT_TRUE(disk->discard(3072, 1024, soon()));
  model.zero(3072, 1024);
  std::vector<std::byte> all(8192 * kSector);
  ASSERT_TRUE(disk->read(0, all, soon()));
  EXPECT_EQ(model.first_wrong(0, all), -1);
  EXPECT_TRUE(disk->flush(soon()));

  const auto stats = disk->stats();
  EXPECT_EQ(stats.requests.ring_violations, 0U);
  EXPECT_EQ(stats.requests.ring_accesses != 0, GetParam().observed);
  EXPECT_EQ(stats.requests.indirect_chains != 0, GetParam().indirect);
  EXPECT_EQ(stats.requests.submitted, stats.requests.completed);
  EXPECT_EQ(stats.requests.given_up, 0U);
  EXPECT_EQ(stats.io_errors + stats.unsupported, 0U);
  EXPECT_FALSE(disk->failed().has_value());
  bench.remove();
}

TEST(QemuBlkQueues, FourQueuesOnFourCpusCarryRequestsAtOnce) {
  for (const bool packed : {false, true}) {
    QemuBench bench;
    device::BindOptions options;
    options.observed = true;
    bench.open("virtio-blk-pci", with(kModern, {{"num-queues", "4"}, {"packed", packed ? "on" : "off"}}), options);
    auto* disk = bench.find<Disk>();
    ASSERT_NE(disk, nullptr);
    EXPECT_TRUE(bench.negotiated("MQ"));
    EXPECT_EQ(disk->info().device_queues, 4);
    EXPECT_EQ(disk->info().queues, 4) << "the test's topology has four CPUs";
    const std::vector<int> cpus = disk->stats().interrupts.cpus;
    ASSERT_EQ(cpus.size(), 5U) << "one vector for each queue and one for the configuration";
    EXPECT_EQ(std::vector<int>(cpus.begin() + 1, cpus.end()), (std::vector<int>{0, 1, 2, 3}));
    std::vector<platform::Thread> threads;
    platform::Atomic<int> good{0};
    for (int queue = 0; queue < 4; ++queue) {
      auto thread = platform::Thread::create({.name = "writer"}, [&, queue] {
        const auto first = static_cast<std::uint64_t>(queue) * 4096;
        for (std::uint32_t round = 1; round <= 20; ++round) {
          std::vector<std::byte> out(64 * kSector), in(64 * kSector);
          fill_sectors(out, first + round * 64, round);
          Io write{.op = Io::Op::kWrite, .sector = first + round * 64, .from = out};
          disk->run(std::span(&write, 1), soon(), queue);
          Io read{.op = Io::Op::kRead, .sector = first + round * 64, .into = in};
          disk->run(std::span(&read, 1), soon(), (queue + 1) % 4);
          if (write.result && read.result && in == out) good.fetch_add(1);
        }
      });
      ASSERT_TRUE(thread);
      threads.push_back(std::move(*thread));
    }
    for (platform::Thread& thread : threads) thread.join();
    EXPECT_EQ(good.load(), 80);
    EXPECT_EQ(disk->stats().requests.ring_violations, 0U);
    EXPECT_GT(disk->stats().requests.ring_accesses, 0U);
    bench.remove();
  }
}

TEST(QemuBlkQueues, AreNoMoreThanTheCpusAndShareVectorsWhereThereAreFewer) {
  struct Expected {
    const char* queues;
    const char* vectors;
    int used;
    std::size_t cpus;
  };
  for (const Expected& expected : {Expected{"8", "9", 4, 5}, Expected{"4", "3", 4, 3}, Expected{"2", "1", 2, 1},
                                   Expected{"4", "0", 4, 1}, Expected{"1", "2", 1, 2}}) {
    QemuBench bench;
    bench.open("virtio-blk-pci", with(kModern, {{"num-queues", expected.queues}, {"vectors", expected.vectors}}));
    auto* disk = bench.find<Disk>();
    ASSERT_NE(disk, nullptr);
    EXPECT_EQ(disk->info().queues, expected.used);
    EXPECT_EQ(disk->stats().interrupts.cpus.size(), expected.cpus);
    DiskModel model(disk->capacity());
    check_random_io(*disk, model, 40, 3);
    EXPECT_GT(disk->stats().interrupts.interrupts, 0U);
    EXPECT_EQ(disk->stats().requests.without_interrupt, 0U) << expected.vectors << " vectors";
    bench.remove();
  }
}

TEST(QemuBlkInfo, GeometryTopologyAndLimitsAreTheDisks) {
  QemuBench bench;
  bench.open("virtio-blk-pci", with(kModern, {{"cyls", "100"},
                                              {"heads", "7"},
                                              {"secs", "33"},
                                              {"logical_block_size", "4096"},
                                              {"physical_block_size", "16384"},
                                              {"min_io_size", "16384"},
                                              {"opt_io_size", "65536"},
                                              {"max-discard-sectors", "1000"},
                                              {"max-write-zeroes-sectors", "500"},
                                              {"queue-size", "64"},
                                              {"num-queues", "1"}}));
  auto* disk = bench.find<Disk>();
  ASSERT_NE(disk, nullptr);
  const virtio_blk::DiskInfo& info = disk->info();
  EXPECT_EQ(info.geometry.cylinders, 100);
  EXPECT_EQ(info.geometry.heads, 7);
  EXPECT_EQ(info.block_size, 4096U);
  EXPECT_EQ(info.topology.physical_block_exp, 2);
  EXPECT_EQ(info.topology.min_io_size, 4);
  EXPECT_EQ(info.topology.opt_io_size, 16U);
  EXPECT_EQ(info.max_discard_sectors, 1000U);
  EXPECT_EQ(info.max_write_zeroes_sectors, 500U);
  EXPECT_EQ(info.seg_max, 62U);
  EXPECT_GE(info.max_transfer, 4096U);
  EXPECT_EQ(info.max_transfer % 4096, 0U);

  // What the disk's blocks do not allow never reaches it.
  const auto before = disk->stats().requests.submitted;
  std::vector<std::byte> sector(512), block(4096, std::byte{1});
  EXPECT_EQ(disk->read(0, sector, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(disk->read(1, block, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(disk->read(disk->capacity(), block, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(disk->read(~std::uint64_t{7}, block, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(disk->read(0, {}, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(disk->write(disk->capacity() - 4, block, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(disk->discard(0, 0, soon()).error().code, Errc::kInvalid);
  EXPECT_EQ(disk->read(0, block, Deadline::never()).error().code, Errc::kInvalid);
  EXPECT_EQ(disk->stats().requests.submitted, before);

  // Ranges beyond the limits of one are cut.
  std::vector<std::byte> ones(8000 * kSector, std::byte{1}), back(8000 * kSector);
  ASSERT_TRUE(disk->write(0, ones, soon()));
  ASSERT_TRUE(disk->write_zeroes(8, 4000, false, soon()));
  ASSERT_TRUE(disk->discard(4008, 3984, soon()));
  ASSERT_TRUE(disk->read(0, back, soon()));
  const std::span<const std::byte> bytes(back);
  const auto all = [](std::span<const std::byte> part, std::byte value) {
    return std::all_of(part.begin(), part.end(), [value](std::byte byte) { return byte == value; });
  };
  EXPECT_TRUE(all(bytes.first(8 * kSector), std::byte{1}));
  EXPECT_TRUE(all(bytes.subspan(8 * kSector, 7984 * kSector), std::byte{0}));
  EXPECT_TRUE(all(bytes.subspan(7992 * kSector), std::byte{1}));
  bench.remove();
}

TEST(QemuBlkInfo, AWriteThroughDiskNeedsNoFlush) {
  QemuBench bench;
  bench.open("virtio-blk-pci", with(kModern, {{"write-cache", "off"}}));
  auto* disk = bench.find<Disk>();
  ASSERT_NE(disk, nullptr);
  EXPECT_FALSE(disk->info().write_cache);
  EXPECT_TRUE(disk->flush(soon()));
  bench.remove();
}

/// A file of its own, in a folder that goes with it.
class TemporaryDisk {
 public:
  explicit TemporaryDisk(std::size_t bytes) {
    std::string folder = (std::filesystem::temp_directory_path() / "upci-disk-XXXXXX").string();
    EXPECT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    path_ = folder + "/a disk, with a comma.img";
    std::FILE* file = std::fopen(path_.c_str(), "wb");
    EXPECT_NE(file, nullptr);
    if (file != nullptr) std::fclose(file);
    std::filesystem::resize_file(path_, bytes);
  }
  ~TemporaryDisk() { std::filesystem::remove_all(folder_); }
  const std::string& path() const { return path_; }

 private:
  std::string folder_;
  std::string path_;
};

TEST(QemuBlkFile, HoldsWhatWasWrittenAfterTheDeviceHasGone) {
  const TemporaryDisk file(8 << 20);
  DiskModel model((8 << 20) / kSector);
  {
    QemuBench bench;
    bench.open("virtio-blk-pci", kModern, {}, {}, file.path());
    auto* disk = bench.find<Disk>();
    ASSERT_NE(disk, nullptr);
    EXPECT_EQ(disk->capacity(), model.sectors());
    check_random_io(*disk, model, 40, 4);
    ASSERT_TRUE(disk->flush(soon()));
    bench.remove();
  }
  std::vector<std::byte> bytes(8192 * kSector);
  std::FILE* read = std::fopen(file.path().c_str(), "rb");
  ASSERT_NE(read, nullptr);
  EXPECT_EQ(std::fread(bytes.data(), 1, bytes.size(), read), bytes.size());
  std::fclose(read);
  EXPECT_EQ(model.first_wrong(0, bytes), -1);
}

TEST(QemuBlkFile, ThatNobodyMayWriteToIsAReadOnlyDisk) {
  const TemporaryDisk file(1 << 20);
  ASSERT_EQ(::chmod(file.path().c_str(), 0444), 0);
  for (const Words& words : {kModern, Words{{"disable-modern", "on"}}}) {
    QemuBench bench;
    bench.open("virtio-blk-pci", words, {}, {}, file.path());
    auto* disk = bench.find<Disk>();
    ASSERT_NE(disk, nullptr);
    EXPECT_TRUE(bench.negotiated("RO"));
    EXPECT_TRUE(disk->info().read_only);
    std::vector<std::byte> block(4096);
    EXPECT_TRUE(disk->read(0, block, soon()));
    const auto before = disk->stats().requests.submitted;
    EXPECT_EQ(disk->write(0, block, soon()).error().code, Errc::kUnavailable);
    EXPECT_EQ(disk->write_zeroes(0, 8, false, soon()).error().code, Errc::kUnavailable);
    EXPECT_EQ(disk->discard(0, 8, soon()).error().code, Errc::kUnavailable);
    EXPECT_EQ(disk->stats().requests.submitted, before) << "none of that reaches the disk";
    bench.remove();
  }
}

TEST(QemuBlkFile, ThatIsNoDiskIsRefusedWithAReason) {
  emulation::Cables cables;
  const TemporaryDisk odd(1000);
  for (const auto& [path, code] : {std::pair<std::string, Errc>{"/nonexistent/disk.img", Errc::kUnavailable},
                                   {"/tmp", Errc::kInvalid},
                                   {"/dev/null", Errc::kInvalid},
                                   {odd.path(), Errc::kInvalid}}) {
    const auto opened = emulation::qemu::open(
        {.uri = "qemu:virtio-blk-pci", .model = "virtio-blk-pci", .words = {}, .disk = path}, cables);
    ASSERT_FALSE(opened) << path;
    EXPECT_EQ(opened.error().code, code) << path;
    EXPECT_FALSE(opened.error().advice.empty()) << path;
  }
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
