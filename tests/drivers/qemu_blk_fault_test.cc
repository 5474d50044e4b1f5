// SPDX-License-Identifier: Apache-2.0
// What QEMU's own tools say about the disk driver: the order of writes and flushes as blklogwrites recorded it, errors that
// blkdebug injects, a capacity that changes, and a QEMU that ends in the middle of requests.
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/unique_fd.h"
#include "base/wait.h"
#include "drivers/virtio_blk/disk.h"
#include "tests/drivers/disk_pattern.h"
#include "tests/drivers/monitor.h"
#include "tests/drivers/qemu_bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using virtio_blk::Disk;
using virtio_blk::Io;

Deadline soon() { return Deadline::after(20s); }

/// What QEMU's blklogwrites wrote down, in its order. The format is that of the kernel's dm-log-writes.
struct LogEntry {
  std::uint64_t sector = 0;
  std::uint64_t sectors = 0;
  std::uint64_t flags = 0;
  static constexpr std::uint64_t kFlush = 1, kDiscard = 4;

  bool is_flush() const { return (flags & kFlush) != 0; }
};

std::vector<LogEntry> read_log(const std::string& path) {
  constexpr std::uint64_t kMagic = 0x6a736677736872ULL;
  std::ifstream file(path, std::ios::binary);
  const auto number = [&file]<class T>(T value) {
    file.read(reinterpret_cast<char*>(&value), sizeof value);
    return value;
  };
  EXPECT_EQ(number(std::uint64_t{}), kMagic);
  EXPECT_EQ(number(std::uint64_t{}), 1U);
  const auto count = number(std::uint64_t{});
  EXPECT_EQ(number(std::uint32_t{}), kSector);
  std::vector<LogEntry> entries;
  std::uint64_t at = kSector;
  for (std::uint64_t i = 0; i < count && file; ++i) {
    file.seekg(static_cast<std::streamoff>(at));
    LogEntry entry;
    entry.sector = number(std::uint64_t{});
    entry.sectors = number(std::uint64_t{});
    entry.flags = number(std::uint64_t{});
    entries.push_back(entry);
    at += kSector;
    if ((entry.flags & LogEntry::kDiscard) == 0) at += entry.sectors * kSector;
  }
  EXPECT_EQ(entries.size(), count);
  return entries;
}

emulation::qemu::Options logged_disk(const std::string& data, const std::string& log) {
  return {.arguments = {"-blockdev", "driver=file,node-name=data,filename=" + data,  //
                        "-blockdev", "driver=file,node-name=log,filename=" + log,    //
                        "-blockdev", "driver=blklogwrites,node-name=logged,file=data,log=log,log-sector-size=512"},
          .disk_node = "logged"};
}

class FlushOrder : public testing::TestWithParam<Personality> {};
INSTANTIATE_TEST_SUITE_P(Disks, FlushOrder, testing::ValuesIn(personalities()),
                         [](const auto& one) { return one.param.name; });

TEST_P(FlushOrder, EveryWriteThatHasEndedIsFollowedByTheFlushAlsoAcrossAReset) {
  const Folder folder;
  const std::string log = folder.path("log");
  folder.file("log", 64 << 20);
  Words words = GetParam().words;
  words.emplace_back("request-merging", "off");
  QemuBench bench;
  device::BindOptions options;
  options.interface = GetParam().interface;
  bench.open("virtio-blk-pci", words, options, logged_disk(folder.file("data", 8 << 20), log));
  if (HasFatalFailure()) return;
  DiskModel model((8 << 20) / kSector);
  std::mt19937 random(7);
  std::size_t seen = 0;  // entries of the log that belong to earlier rounds
  std::set<std::uint64_t> written;
  for (unsigned round = 0; round < 20; ++round) {
    auto* disk = bench.find<Disk>();
    ASSERT_NE(disk, nullptr);
    // A round's writes lie where no other round's do.
    std::vector<std::vector<std::byte>> buffers;
    std::vector<Io> batch;
    for (unsigned i = 0; i < 6; ++i) {
      const std::uint64_t sector = 512 * (round % 20) + 64 * i;
      buffers.push_back(model.write(sector, 1 + random() % 32));
      batch.push_back({.op = Io::Op::kWrite, .sector = sector, .from = buffers.back()});
      for (std::uint64_t s = 0; s < buffers.back().size() / kSector; ++s) written.insert(sector + s);
    }
    disk->run(batch, soon());
    for (const Io& io : batch) ASSERT_TRUE(io.result) << io.result.error().message();
    if (round % 5 == 2) {
      // The same, with the driver in place.
      ASSERT_TRUE(bench.context->freeze(bench.device, soon()));
      ASSERT_TRUE(bench.context->restore(bench.device, soon()));
    }
    if (round % 5 == 4) {
      // The disk is reset between the writes and their flush.
      bench.remove();
      bench.probe();
      if (HasFatalFailure()) return;
      disk = bench.find<Disk>();
      ASSERT_NE(disk, nullptr);
    }
    ASSERT_TRUE(disk->flush(soon()));

    // As the log is the moment flush() has returned.
    const std::vector<LogEntry> entries = read_log(log);
    ASSERT_GT(entries.size(), seen);
    EXPECT_TRUE(entries.back().is_flush()) << "round " << round;
    std::set<std::uint64_t> logged;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      for (std::uint64_t s = 0; s < entries[i].sectors; ++s) {
        logged.insert(entries[i].sector + s);
        if (i < seen) continue;
        EXPECT_EQ((entries[i].sector + s) / 512, round % 20) << "a write of another round came after its flush";
      }
    }
    EXPECT_EQ(logged, written) << "round " << round;
    seen = entries.size();
  }
  auto* disk = bench.find<Disk>();
  std::vector<std::byte> all(model.sectors() * kSector);
  ASSERT_TRUE(disk->read(0, all, soon()));
  EXPECT_EQ(model.first_wrong(0, all), -1);
  bench.remove();
}

TEST(BlkErrors, ThatTheDiskReportsReachTheCallerAndNobodyElse) {
  struct Case {
    const char* iotype;
    Io::Op op;
  };
  for (const Case& one : {Case{"read", Io::Op::kRead}, Case{"write", Io::Op::kWrite}, Case{"flush", Io::Op::kFlush},
                          Case{"discard", Io::Op::kDiscard}, Case{"write-zeroes", Io::Op::kWriteZeroes}}) {
    const Folder folder;
    std::string rule = std::string("inject-error.0.event=none,inject-error.0.errno=5,inject-error.0.once=on,") +
                       "inject-error.0.iotype=" + one.iotype;
    if (one.op != Io::Op::kFlush) rule += ",inject-error.0.sector=100";
    QemuBench bench;
    bench.open(
        "virtio-blk-pci", {{"disable-legacy", "on"}, {"request-merging", "off"}}, {},
        {.arguments = {"-blockdev", "driver=file,node-name=data,discard=unmap,filename=" + folder.file("data", 1 << 20),
                       "-blockdev", "driver=blkdebug,node-name=faulty,discard=unmap,image=data," + rule},
         .disk_node = "faulty"});
    if (testing::Test::HasFatalFailure()) return;
    auto* disk = bench.find<Disk>();
    ASSERT_NE(disk, nullptr);
    std::vector<std::byte> a(8 * kSector), b(8 * kSector);
    for (int round = 0; round < 2; ++round) {
      // QEMU passes a flush on only when something was written since the last one.
      if (one.op == Io::Op::kFlush) { ASSERT_TRUE(disk->write(500, b, soon())); }
      Io batch[2] = {{.op = one.op, .sector = 96, .into = a, .from = a, .sectors = 8},
                     {.op = Io::Op::kRead, .sector = 200, .into = b}};
      disk->run(batch, soon());
      if (round == 0) {
        ASSERT_FALSE(batch[0].result) << one.iotype;
        EXPECT_EQ(batch[0].result.error().code, Errc::kSystem) << one.iotype;
        EXPECT_EQ(batch[0].result.error().sys_errno, EIO) << one.iotype;
      } else {
        EXPECT_TRUE(batch[0].result) << one.iotype << ": only once";
      }
      EXPECT_TRUE(batch[1].result) << one.iotype << ": its neighbour is well";
    }
    EXPECT_EQ(disk->stats().io_errors, 1U) << one.iotype;
    EXPECT_FALSE(disk->failed().has_value()) << one.iotype;
    bench.remove();
  }
}

TEST(BlkConfig, ACapacityThatChangesIsNoticed) {
  for (const Words& words : {Words{{"disable-legacy", "on"}}, Words{{"disable-modern", "on"}, {"vectors", "0"}}}) {
    const Folder folder;
    QemuBench bench;
    bench.open("virtio-blk-pci", words, {}, {.arguments = Monitor::arguments(folder)}, folder.file("data", 8 << 20));
    if (testing::Test::HasFatalFailure()) return;
    auto* disk = bench.find<Disk>();
    ASSERT_NE(disk, nullptr);
    EXPECT_EQ(disk->capacity(), 16384U);
    platform::Atomic<unsigned> told{0};
    disk->set_event_handler([&](virtio_blk::DiskEvent event) {
      if (event == virtio_blk::DiskEvent::kCapacity) told.fetch_add(1);
    });
    Monitor monitor(folder);
    const auto resize = [&monitor](const std::string& bytes) {
      const std::string answer =
          monitor.run(R"({"execute":"block_resize","arguments":{"node-name":"disk0","size":)" + bytes + "}}");
      EXPECT_NE(answer.find("return"), std::string::npos) << answer;
    };
    resize("16777216");
    const Deadline limit = soon();
    while (told.load() == 0 && !limit.expired()) sleep_for(1ms);
    EXPECT_EQ(disk->capacity(), 32768U);
    EXPECT_GE(disk->stats().config_changes, 1U);
    std::vector<std::byte> block(4096);
    EXPECT_TRUE(disk->read(32760, block, soon())) << "what is new can be used at once";
    // And one that nobody can hear of.
    ASSERT_TRUE(bench.context->freeze(bench.device, soon()));
    resize("4194304");
    ASSERT_TRUE(bench.context->restore(bench.device, soon()));
    EXPECT_EQ(disk->capacity(), 8192U);
    EXPECT_EQ(told.load(), 2U);
    EXPECT_EQ(disk->read(8192, block, soon()).error().code, Errc::kInvalid) << "beyond its end";
    EXPECT_TRUE(disk->read(8184, block, soon()));
    bench.remove();
  }
}

/// The process id that QEMU wrote down.
pid_t pid_in(const std::string& path) {
  std::ifstream file(path);
  pid_t pid = 0;
  file >> pid;
  return pid;
}

// Requests that take half a minute, and QEMU killed in the middle of them.
TEST(BlkGone, RequestsInFlightEndAsGoneSoon) {
  for (const bool polling : {false, true}) {
    const Folder folder;
    QemuBench bench;
    // With a geometry of its own: QEMU would otherwise read the first sector for it, before it has started.
    bench.open("virtio-blk-pci", {{"disable-legacy", "on"}, {"cyls", "130"}, {"heads", "16"}, {"secs", "63"}}, {},
               {.arguments = {"-pidfile", folder.path("pid"), "-blockdev",
                              "driver=null-co,node-name=slow,size=67108864,latency-ns=30000000000"},
                .disk_node = "slow"});
    if (testing::Test::HasFatalFailure()) return;
    auto* disk = bench.find<Disk>();
    ASSERT_NE(disk, nullptr);
    disk->set_polling(polling);
    const pid_t pid = pid_in(folder.path("pid"));
    ASSERT_GT(pid, 0);
    std::vector<std::vector<std::byte>> buffers(8, std::vector<std::byte>(4096));
    std::vector<Io> batch;
    for (std::size_t i = 0; i < buffers.size(); ++i) batch.push_back({.sector = i * 8, .into = buffers[i]});
    auto thread = platform::Thread::create({.name = "reader"}, [&] { disk->run(batch, Deadline::after(60s)); });
    ASSERT_TRUE(thread);
    const Deadline limit = soon();
    while (disk->stats().requests.submitted < batch.size() && !limit.expired()) sleep_for(1ms);
    const auto begin = platform::Clock::now();
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    thread->join();
    EXPECT_LT(platform::Clock::now() - begin, 20s);
    for (const Io& io : batch) {
      ASSERT_FALSE(io.result);
      EXPECT_EQ(io.result.error().verdict, Verdict::kGone) << io.result.error().message();
    }
    EXPECT_EQ(disk->stats().requests.given_up, batch.size());
    EXPECT_EQ(disk->read(0, buffers[0], soon()).error().verdict, Verdict::kGone);
    static_cast<void>(bench.context->remove(bench.device, soon()));
    EXPECT_FALSE(bench.device->state()->quarantined()) << "a process that has ended writes to no memory";
  }
}

TEST(BlkGone, UnderLoadFromManyThreadsEachCallEnds) {
  const Folder folder;
  QemuBench bench;
  bench.open("virtio-blk-pci", {{"disable-legacy", "on"}, {"num-queues", "4"}}, {},
             {.arguments = Monitor::arguments(folder)});
  if (testing::Test::HasFatalFailure()) return;
  auto* disk = bench.find<Disk>();
  ASSERT_NE(disk, nullptr);
  const Deadline limit = soon();
  std::vector<platform::Thread> threads;
  platform::Atomic<unsigned> done{0}, gone{0};
  for (int queue = 0; queue < 4; ++queue) {
    auto thread = platform::Thread::create({.name = "reader"}, [&, queue] {
      std::vector<std::byte> block(4096);
      for (;;) {
        Io io{.sector = static_cast<std::uint64_t>(queue) * 8, .into = block};
        disk->run(std::span(&io, 1), Deadline::after(60s), queue);
        if (io.result) {
          done.fetch_add(1);
          continue;
        }
        // A QEMU that is told to quit may still end a read with an error of the disk, before it goes.
        if (io.result.error().verdict != Verdict::kGone && !limit.expired()) continue;
        if (io.result.error().verdict == Verdict::kGone) gone.fetch_add(1);
        return;
      }
    });
    ASSERT_TRUE(thread);
    threads.push_back(std::move(*thread));
  }
  while (done.load() < 100 && !limit.expired()) sleep_for(1ms);
  EXPECT_GE(done.load(), 100U);
  Monitor(folder).run(R"({"execute":"quit"})");
  for (platform::Thread& thread : threads) thread.join();
  EXPECT_EQ(gone.load(), 4U);
  static_cast<void>(bench.context->remove(bench.device, soon()));
  EXPECT_FALSE(bench.device->state()->quarantined());
}

// The kernel's remove() under load: who is inside gets a result, who comes later is refused, nothing is left behind.
TEST(BlkRemove, UnderLoadEndsEachCallWithAResult) {
  QemuBench bench;
  bench.open("virtio-blk-pci", {{"disable-legacy", "on"}, {"num-queues", "4"}});
  if (testing::Test::HasFatalFailure()) return;
  auto* disk = bench.find<Disk>();
  ASSERT_NE(disk, nullptr);
  std::vector<platform::Thread> threads;
  platform::Atomic<unsigned> done{0}, refused{0};
  for (int queue = 0; queue < 3; ++queue) {
    auto thread = platform::Thread::create({.name = "reader"}, [&, queue] {
      std::vector<std::byte> block(4096);
      for (;;) {
        Io io{.sector = 0, .into = block};
        disk->run(std::span(&io, 1), Deadline::after(60s), queue);
        if (!io.result) {
          if (io.result.error().code == Errc::kState) refused.fetch_add(1);
          return;
        }
        done.fetch_add(1);
      }
    });
    ASSERT_TRUE(thread);
    threads.push_back(std::move(*thread));
  }
  const Deadline limit = soon();
  while (done.load() < 50 && !limit.expired()) sleep_for(1ms);
  EXPECT_TRUE(disk->quiesce(Deadline::after(10s)));
  for (platform::Thread& thread : threads) thread.join();
  EXPECT_EQ(refused.load(), 3U);
  EXPECT_EQ(disk->stats().requests.given_up, 0U) << "all that was under way came to its end";
  bench.remove();
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
