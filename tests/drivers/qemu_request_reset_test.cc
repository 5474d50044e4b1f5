// SPDX-License-Identifier: Apache-2.0
// QEMU's disk and entropy device asked to be reset, by a ring that this test makes nonsense of, or frozen and restored, in the
// middle of requests.
#include <cerrno>
#include <cstring>

#include "base/wait.h"
#include "drivers/virtio_blk/disk.h"
#include "drivers/virtio_rng/rng.h"
#include "tests/drivers/disk_pattern.h"
#include "tests/drivers/qemu_bench.h"
#include "virtio/spec/packed_ring.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using virtio_blk::Disk;
using virtio_blk::Io;
using virtio_rng::Rng;

Deadline soon() { return Deadline::after(20s); }

template <class F>
bool eventually(F so) {
  const Deadline limit = soon();
  while (!so()) {
    if (limit.expired()) return false;
    sleep_for(1ms);
  }
  return true;
}

/// Makes available in a queue what no driver may, and rings its doorbell: QEMU then marks the device as broken. The device says
/// where the ring is, and a buffer in the same memory how its addresses become ours. `submitted` chains of one descriptor each
/// went through a packed ring before; the queue must be at rest.
void break_ring(QemuBench& bench, std::uint16_t queue, bool packed, std::uint64_t submitted) {
  constexpr unsigned kBar = 4;  // QEMU's: the common configuration, and the doorbells
  constexpr std::uint64_t kSelect = 0x16, kSize = 0x18, kDescriptors = 0x20, kDriver = 0x28, kDoorbells = 0x3000;
  auto bar = bench.device->bar(kBar);
  ASSERT_TRUE(bar) << bar.error().message();
  auto buffer = bench.device->dma_alloc({.len = 4096});
  ASSERT_TRUE(buffer) << buffer.error().message();
  bar->store<std::uint16_t>(kSelect, queue);
  const auto memory = [&](std::uint64_t reg) {
    const std::uint64_t iova = bar->load<std::uint32_t>(reg) | std::uint64_t{bar->load<std::uint32_t>(reg + 4)} << 32;
    return buffer->va() + (static_cast<std::int64_t>(iova) - static_cast<std::int64_t>(buffer->iova()));
  };
  const std::uint16_t size = bar->load<std::uint16_t>(kSize);
  if (packed) {
    namespace ring = virtio::spec::packed;
    const bool first_lap = submitted / size % 2 == 0;
    // A disk minds a request without a header; QEMU 7.2 turns in circles, in its disk, over what cannot be taken out of the ring.
    // An entropy device minds a table with half an entry.
    const bool disk = device::find<Disk>(*bench.context->bound(*bench.device)) != nullptr;
    const ring::Descriptor nonsense{
        .addr = buffer->iova(),
        .len = disk ? 1U : 8U,
        .id = 0,
        .flags = static_cast<std::uint16_t>((first_lap ? ring::kDescAvail : ring::kDescUsed) |
                                            (disk ? 0 : ring::kDescIndirect))};
    std::memcpy(memory(kDescriptors) + submitted % size * sizeof nonsense, &nonsense, sizeof nonsense);
  } else {
    auto* const available = reinterpret_cast<std::uint16_t*>(memory(kDriver));
    const std::uint16_t index = available[1];
    available[2 + index % size] = 0x7fff;
    std::atomic_ref<std::uint16_t>(available[1]).store(static_cast<std::uint16_t>(index + 1));
  }
  bar->store<std::uint16_t>(kDoorbells + 4U * queue, queue);
}

struct Way {
  const char* name;
  Words words;
  bool packed = false;
  bool polling = false;
  bool observed = false;
};
std::string way_name(const testing::TestParamInfo<Way>& info) { return info.param.name; }
const auto kWays = testing::Values(
    Way{"Split", {}}, Way{"SplitObserved", {}, false, false, true}, Way{"SplitPolled", {}, false, true},
    Way{"SplitLine", {{"vectors", "0"}}}, Way{"Packed", {{"packed", "on"}}, true},
    Way{"PackedObserved", {{"packed", "on"}}, true, false, true}, Way{"PackedPolled", {{"packed", "on"}}, true, true});

Words modern(const Way& way, const Words& more) {
  Words words = {{"disable-legacy", "on"}};
  words.insert(words.end(), way.words.begin(), way.words.end());
  words.insert(words.end(), more.begin(), more.end());
  return words;
}
device::BindOptions options_of(const Way& way) {
  device::BindOptions options;
  options.observed = way.observed;
  return options;
}
void expect_balance(const virtio::RequestStats& stats) {
  EXPECT_EQ(stats.submitted, stats.completed + stats.cancelled + stats.given_up);
  EXPECT_EQ(stats.ring_violations, 0U);
}

class QemuReset : public testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(Ways, QemuReset, kWays, way_name);

/// A disk whose requests take their time. With a geometry of its own: QEMU would otherwise read the first sector for it.
void open_slow_disk(QemuBench& bench, const Way& way, const std::string& latency_ns) {
  bench.open("virtio-blk-pci", modern(way, {{"cyls", "130"}, {"heads", "16"}, {"secs", "63"}}), options_of(way),
             {.arguments = {"-blockdev",
                            "driver=null-co,node-name=slow,size=67108864,read-zeroes=on,latency-ns=" + latency_ns},
              .disk_node = "slow"});
}

/// A batch of reads in a thread of its own.
struct Reads {
  explicit Reads(Disk& disk, std::size_t count = 8) : buffers(count, std::vector<std::byte>(4096, std::byte{0xee})) {
    for (std::size_t i = 0; i < count; ++i) batch.push_back({.sector = i * 8, .into = buffers[i]});
    auto made =
        platform::Thread::create({.name = "reader"}, [this, &disk] { disk.run(batch, Deadline::after(60s), 0); });
    EXPECT_TRUE(made);
    thread = std::move(*made);
  }
  std::vector<std::vector<std::byte>> buffers;
  std::vector<Io> batch;
  platform::Thread thread;
};

TEST_P(QemuReset, ADiskThatAsksForItIsBroughtBackAndEachRequestInFlightEndsOnce) {
  QemuBench bench;
  open_slow_disk(bench, GetParam(), "400000000");
  if (HasFatalFailure()) return;
  auto* disk = bench.find<Disk>();
  ASSERT_NE(disk, nullptr);
  disk->set_polling(GetParam().polling);
  platform::Atomic<unsigned> told{0};
  disk->set_event_handler([&](virtio_blk::DiskEvent event) {
    if (event == virtio_blk::DiskEvent::kReset) told.fetch_add(1);
  });
  std::uint64_t since_reset = 0;
  for (unsigned round = 1; round <= 3; ++round) {
    const std::uint64_t before = disk->stats().requests.submitted;
    Reads reads(*disk);
    ASSERT_TRUE(eventually([&] { return disk->stats().requests.submitted == before + 8; }));
    break_ring(bench, 0, GetParam().packed, since_reset + 8);
    reads.thread.join();
    for (const Io& io : reads.batch) {
      ASSERT_FALSE(io.result);
      EXPECT_EQ(io.result.error().sys_errno, ECANCELED) << io.result.error().message();
      EXPECT_EQ(io.into[0], std::byte{0xee}) << "nothing of it reaches the caller";
    }
    ASSERT_TRUE(eventually([&] { return disk->stats().requests.recoveries == round; }));
    EXPECT_EQ(disk->stats().requests.cancelled, 8U * round);
    std::vector<std::byte> block(4096, std::byte{0xee});
    const auto read = disk->read(0, block, soon());
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(block[0], std::byte{0});
    since_reset = 1;
  }
  EXPECT_EQ(told.load(), 3U);
  EXPECT_FALSE(disk->failed().has_value());
  EXPECT_EQ(disk->stats().requests.given_up, 0U);
  expect_balance(disk->stats().requests);
  bench.remove();
}

TEST_P(QemuReset, AnEntropyDeviceThatAsksForItIsBroughtBack) {
  QemuBench bench;
  // Eight bytes a second: the second request is under way for so long.
  bench.open("virtio-rng-pci", modern(GetParam(), {{"max-bytes", "8"}, {"period", "1000"}}), options_of(GetParam()));
  if (HasFatalFailure()) return;
  auto* rng = bench.find<Rng>();
  ASSERT_NE(rng, nullptr);
  rng->set_polling(GetParam().polling);
  std::array<std::byte, 8> bytes{};
  ASSERT_TRUE(rng->read(bytes, soon()));
  Result<std::size_t> result = std::size_t{0};
  auto thread = platform::Thread::create({.name = "reader"}, [&] { result = rng->read(bytes, Deadline::after(60s)); });
  ASSERT_TRUE(thread);
  ASSERT_TRUE(eventually([&] { return rng->stats().submitted == 2; }));
  break_ring(bench, 0, GetParam().packed, 2);
  thread->join();
  if (!result) { EXPECT_EQ(result.error().sys_errno, ECANCELED) << result.error().message(); }
  ASSERT_TRUE(eventually([&] { return rng->stats().recoveries == 1; }));
  const auto again = rng->read(bytes, soon());
  EXPECT_TRUE(again) << again.error().message();
  expect_balance(rng->stats());
  bench.remove();
}

// QEMU's disk ends what it has before it is reset: that is neither lost nor cancelled, though nobody but the freeze sees it.
TEST_P(QemuReset, WhatADiskReturnsWhileItIsFrozenIsGood) {
  QemuBench bench;
  open_slow_disk(bench, GetParam(), "1200000000");
  if (HasFatalFailure()) return;
  auto* disk = bench.find<Disk>();
  ASSERT_NE(disk, nullptr);
  disk->set_polling(GetParam().polling);
  Reads reads(*disk);
  ASSERT_TRUE(eventually([&] { return disk->stats().requests.submitted == 8; }));
  const auto frozen = bench.context->freeze(bench.device, Deadline::after(1500ms));
  ASSERT_TRUE(frozen) << frozen.error().message();
  reads.thread.join();
  for (const Io& io : reads.batch) {
    ASSERT_TRUE(io.result) << io.result.error().message();
    EXPECT_EQ(io.into[0], std::byte{0});
  }
  std::vector<std::byte> block(4096, std::byte{0xee});
  EXPECT_EQ(disk->read(0, block, Deadline::after(20ms)).error().code, Errc::kState);
  const auto restored = bench.context->restore(bench.device, soon());
  ASSERT_TRUE(restored) << restored.error().message();
  const auto read = disk->read(0, block, soon());
  EXPECT_TRUE(read) << read.error().message();
  EXPECT_EQ(disk->stats().requests.cancelled, 0U);
  EXPECT_EQ(disk->stats().requests.recoveries, 0U);
  expect_balance(disk->stats().requests);
  bench.remove();
}

// QEMU's entropy device forgets what it has.
TEST_P(QemuReset, WhatAFrozenEntropyDeviceKeepsIsCancelled) {
  QemuBench bench;
  bench.open("virtio-rng-pci", modern(GetParam(), {{"max-bytes", "8"}, {"period", "2000"}}), options_of(GetParam()));
  if (HasFatalFailure()) return;
  auto* rng = bench.find<Rng>();
  ASSERT_NE(rng, nullptr);
  rng->set_polling(GetParam().polling);
  std::array<std::byte, 8> bytes{};
  ASSERT_TRUE(rng->read(bytes, soon()));
  Result<std::size_t> result = std::size_t{0};
  auto thread = platform::Thread::create({.name = "reader"}, [&] { result = rng->read(bytes, Deadline::after(60s)); });
  ASSERT_TRUE(thread);
  ASSERT_TRUE(eventually([&] { return rng->stats().submitted == 2; }));
  const auto frozen = bench.context->freeze(bench.device, Deadline::after(300ms));
  ASSERT_TRUE(frozen) << frozen.error().message();
  thread->join();
  if (!result) { EXPECT_EQ(result.error().sys_errno, ECANCELED) << result.error().message(); }
  EXPECT_EQ(rng->stats().cancelled, result ? 0U : 1U);
  const auto restored = bench.context->restore(bench.device, soon());
  ASSERT_TRUE(restored) << restored.error().message();
  EXPECT_TRUE(rng->read(bytes, soon()));
  expect_balance(rng->stats());
  bench.remove();
}

/// Threads that write and read back, each in a part of the disk of its own and in a queue of its own. What a reset cancelled is
/// asked for again.
class Load {
 public:
  static constexpr unsigned kThreads = 3;

  explicit Load(Disk& disk) {
    for (unsigned t = 0; t < kThreads; ++t) {
      auto made = platform::Thread::create({.name = "load"}, [this, &disk, t] { run(disk, t); });
      EXPECT_TRUE(made);
      threads_.push_back(std::move(*made));
    }
  }
  void stop() {
    stop_.store(true);
    for (platform::Thread& thread : threads_) thread.join();
  }
  std::uint64_t rounds() const { return rounds_.load(); }
  bool goes_on() {
    const std::uint64_t before = rounds();
    return eventually([&] { return rounds() >= before + 20; });
  }

 private:
  void run(Disk& disk, unsigned t) {
    const int queue = static_cast<int>(t % disk.info().queues);
    for (std::uint32_t version = 1; !stop_.load(); ++version) {
      const std::uint64_t sector = t * 8192ULL + version * 64ULL % 8000;
      std::vector<std::byte> out(32 * kSector), in(32 * kSector);
      fill_sectors(out, sector, version);
      const auto ask = [&](Io io) {
        do {
          disk.run(std::span(&io, 1), Deadline::after(60s), queue);
        } while (!io.result && io.result.error().sys_errno == ECANCELED);
        ASSERT_TRUE(io.result) << io.result.error().message();
      };
      ask({.op = Io::Op::kWrite, .sector = sector, .from = out});
      ask({.op = Io::Op::kRead, .sector = sector, .into = in});
      ASSERT_TRUE(in == out) << "sector " << sector;
      rounds_.fetch_add(1);
    }
  }
  platform::Atomic<bool> stop_{false};
  platform::Atomic<std::uint64_t> rounds_{0};
  std::vector<platform::Thread> threads_;
};

// The rings under load stay as they are: it is the fourth one, which nobody uses, that is made nonsense of.
TEST_P(QemuReset, UnderLoadContentsStayRight) {
  QemuBench bench;
  bench.open("virtio-blk-pci", modern(GetParam(), {{"num-queues", "4"}}), options_of(GetParam()));
  if (HasFatalFailure()) return;
  auto* disk = bench.find<Disk>();
  ASSERT_NE(disk, nullptr);
  ASSERT_EQ(disk->info().queues, 4);
  disk->set_polling(GetParam().polling);
  Load load(*disk);
  for (unsigned round = 1; round <= 4; ++round) {
    EXPECT_TRUE(load.goes_on());
    break_ring(bench, 3, GetParam().packed, 0);
    EXPECT_TRUE(eventually([&] { return disk->stats().requests.recoveries == round; }));
  }
  EXPECT_TRUE(load.goes_on());
  load.stop();
  EXPECT_EQ(disk->stats().requests.given_up, 0U);
  expect_balance(disk->stats().requests);
  bench.remove();
}

class QemuSuspend : public testing::TestWithParam<Personality> {};
INSTANTIATE_TEST_SUITE_P(Interfaces, QemuSuspend, testing::ValuesIn(personalities()),
                         [](const auto& one) { return one.param.name; });

TEST_P(QemuSuspend, ADiskUnderLoadLosesNothing) {
  for (const bool polling : {false, true}) {
    QemuBench bench;
    device::BindOptions options;
    options.interface = GetParam().interface;
    options.observed = polling;
    Words words = GetParam().words;
    words.emplace_back("num-queues", "2");
    bench.open("virtio-blk-pci", words, options);
    if (HasFatalFailure()) return;
    auto* disk = bench.find<Disk>();
    ASSERT_NE(disk, nullptr);
    disk->set_polling(polling);
    Load load(*disk);
    for (unsigned round = 0; round < 4; ++round) {
      EXPECT_TRUE(load.goes_on());
      const auto frozen = bench.context->freeze(bench.device, soon());
      ASSERT_TRUE(frozen) << frozen.error().message();
      const std::uint64_t asleep = load.rounds();
      sleep_for(20ms);  // time to go wrong
      EXPECT_LE(load.rounds(), asleep + Load::kThreads);
      const auto restored = bench.context->restore(bench.device, soon());
      ASSERT_TRUE(restored) << restored.error().message();
    }
    EXPECT_TRUE(load.goes_on());
    load.stop();
    const auto stats = disk->stats().requests;
    EXPECT_EQ(stats.cancelled, 0U) << "there was time for all";
    EXPECT_EQ(stats.without_interrupt, 0U);
    expect_balance(stats);
    bench.remove();
  }
}

TEST_P(QemuSuspend, AnEntropyDeviceGoesOn) {
  QemuBench bench;
  device::BindOptions options;
  options.interface = GetParam().interface;
  bench.open("virtio-rng-pci", GetParam().words, options);
  if (HasFatalFailure()) return;
  auto* rng = bench.find<Rng>();
  ASSERT_NE(rng, nullptr);
  std::array<std::byte, 64> bytes{};
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(rng->read(bytes, soon()));
    ASSERT_TRUE(bench.context->freeze(bench.device, soon()));
    EXPECT_EQ(rng->read(bytes, Deadline::after(10ms)).error().code, Errc::kState);
    ASSERT_TRUE(bench.context->restore(bench.device, soon()));
    EXPECT_TRUE(rng->read(bytes, soon()));
  }
  EXPECT_EQ(rng->stats().without_interrupt, 0U);
  expect_balance(rng->stats());
  bench.remove();
}

// The kernel's remove() under load, as for disks.
TEST(QemuRngRemove, UnderLoadEndsEachCallWithAResult) {
  QemuBench bench;
  bench.open("virtio-rng-pci", {{"disable-legacy", "on"}});
  if (testing::Test::HasFatalFailure()) return;
  auto* rng = bench.find<Rng>();
  ASSERT_NE(rng, nullptr);
  std::vector<platform::Thread> threads;
  platform::Atomic<unsigned> done{0}, refused{0};
  for (int t = 0; t < 3; ++t) {
    auto thread = platform::Thread::create({.name = "reader"}, [&] {
      std::array<std::byte, 64> bytes{};
      for (;;) {
        const auto got = rng->read(bytes, Deadline::after(60s));
        if (!got) {
          if (got.error().code == Errc::kState) refused.fetch_add(1);
          return;
        }
        done.fetch_add(1);
      }
    });
    ASSERT_TRUE(thread);
    threads.push_back(std::move(*thread));
  }
  ASSERT_TRUE(eventually([&] { return done.load() >= 50; }));
  EXPECT_TRUE(rng->quiesce(Deadline::after(10s)));
  for (platform::Thread& thread : threads) thread.join();
  EXPECT_EQ(refused.load(), 3U);
  EXPECT_EQ(rng->stats().given_up, 0U) << "all that was under way came to its end";
  expect_balance(rng->stats());
  bench.remove();
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
