// SPDX-License-Identifier: Apache-2.0
// The entropy driver on QEMU's virtio-rng-pci, which nobody here wrote.
#include <array>
#include <cmath>
#include <cstring>
#include <set>

#include "drivers/virtio_rng/rng.h"
#include "tests/drivers/qemu_bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

/// Reads until `into` is full.
void fill(virtio_rng::Rng& rng, std::span<std::byte> into) {
  while (!into.empty()) {
    const auto got = rng.read(into, Deadline::after(10s));
    ASSERT_TRUE(got) << got.error().message();
    ASSERT_GT(*got, 0U);
    ASSERT_LE(*got, into.size());
    into = into.subspan(*got);
  }
}

/// How far the bytes are from being spread evenly: chi squared over 256 values has mean 255 and deviation 22.6.
double chi_squared(std::span<const std::byte> bytes) {
  std::array<double, 256> counts{};
  for (const std::byte byte : bytes) counts[std::to_integer<std::size_t>(byte)] += 1;
  const double expected = static_cast<double>(bytes.size()) / 256;
  double sum = 0;
  for (const double count : counts) sum += (count - expected) * (count - expected) / expected;
  return sum;
}

class QemuRng : public testing::TestWithParam<RingCase> {
 protected:
  void SetUp() override {
    bench.open("virtio-rng-pci", GetParam().words(), options_of(GetParam()));
    if (HasFatalFailure()) return;
    rng = bench.find<virtio_rng::Rng>();
    ASSERT_NE(rng, nullptr);
  }
  void TearDown() override {
    if (rng == nullptr) return;
    EXPECT_EQ(rng->stats().ring_violations, 0U);
    EXPECT_EQ(rng->stats().ring_accesses != 0, GetParam().observed);
    EXPECT_EQ(rng->stats().given_up, 0U);
    EXPECT_FALSE(rng->failed().has_value());
    bench.remove();
  }

  QemuBench bench;
  virtio_rng::Rng* rng = nullptr;
};
// A chain is one descriptor: INDIRECT_DESC is not asked for, whatever the device offers.
INSTANTIATE_TEST_SUITE_P(Devices, QemuRng, testing::ValuesIn(ring_cases()), ring_case_name);

TEST_P(QemuRng, GivesRandomBytesByInterruptAndPolledWithWhatItCanUseAndNoMore) {
  EXPECT_EQ(bench.negotiated("VERSION_1"), !GetParam().personality.legacy);
  EXPECT_EQ(bench.negotiated("RING_PACKED"), GetParam().personality.packed);
  EXPECT_EQ(bench.negotiated("EVENT_IDX"), GetParam().event_idx);
  EXPECT_FALSE(bench.negotiated("INDIRECT_DESC"));
  std::set<std::vector<std::byte>> seen;
  for (const bool polling : {false, true}) {
    rng->set_polling(polling);
    const auto before = rng->stats();
    const auto interrupts = rng->interrupt_stats().interrupts;
    std::vector<std::byte> bytes(64 * 1024);
    fill(*rng, bytes);
    EXPECT_LT(chi_squared(bytes), 255 + 10 * 22.6) << "not evenly spread";
    EXPECT_GT(chi_squared(bytes), 255 - 8 * 22.6) << "too evenly spread";
    EXPECT_GT(rng->stats().completed, before.completed);
    EXPECT_EQ(rng->stats().without_interrupt, 0U);
    if (!polling) { EXPECT_GT(rng->interrupt_stats().interrupts, interrupts); }
    for (int i = 0; i < 20; ++i) {
      bytes.resize(16);
      fill(*rng, bytes);
      EXPECT_TRUE(seen.insert(bytes).second) << "no two reads give the same";
    }
  }
}

TEST(QemuRngThreads, ReadAtOnce) {
  QemuBench bench;
  bench.open("virtio-rng-pci", {{"disable-legacy", "on"}});
  auto* rng = bench.find<virtio_rng::Rng>();
  ASSERT_NE(rng, nullptr);
  std::vector<platform::Thread> threads;
  platform::Atomic<int> good{0};
  for (int i = 0; i < 4; ++i) {
    auto thread = platform::Thread::create({.name = "reader"}, [&] {
      std::vector<std::byte> bytes(8192);
      fill(*rng, bytes);
      if (chi_squared(bytes) < 255 + 10 * 22.6) good.fetch_add(1);
    });
    ASSERT_TRUE(thread);
    threads.push_back(std::move(*thread));
  }
  for (platform::Thread& thread : threads) thread.join();
  EXPECT_EQ(good.load(), 4);
  bench.remove();
}

TEST(QemuRngVectors, WorksWithOneVectorAndWithALine) {
  for (const char* vectors : {"0", "1"}) {
    for (const Words& interface : {Words{{"disable-legacy", "on"}}, Words{{"disable-modern", "on"}}}) {
      QemuBench bench;
      Words words = interface;
      words.emplace_back("vectors", vectors);
      bench.open("virtio-rng-pci", words);
      auto* rng = bench.find<virtio_rng::Rng>();
      ASSERT_NE(rng, nullptr);
      std::vector<std::byte> bytes(8192);
      fill(*rng, bytes);
      EXPECT_EQ(rng->interrupt_stats().cpus.size(), 1U);
      EXPECT_GT(rng->interrupt_stats().interrupts, 0U);
      EXPECT_EQ(rng->stats().without_interrupt, 0U);
      bench.remove();
    }
  }
}

// Eight bytes a minute: the second request cannot be answered in time.
TEST(QemuRngDeadline, ADeviceThatGivesNothingIsStuckAndItsMemoryStaysItsOwn) {
  for (const bool polling : {false, true}) {
    QemuBench bench;
    bench.open("virtio-rng-pci", {{"disable-legacy", "on"}, {"max-bytes", "8"}, {"period", "60000"}});
    auto* rng = bench.find<virtio_rng::Rng>();
    ASSERT_NE(rng, nullptr);
    rng->set_polling(polling);
    std::array<std::byte, 64> bytes{};
    const auto first = rng->read(bytes, Deadline::after(10s));
    ASSERT_TRUE(first) << first.error().message();
    EXPECT_EQ(*first, 8U) << "the device must say how little it wrote";
    const auto begin = platform::Clock::now();
    const auto second = rng->read(bytes, Deadline::after(200ms));
    EXPECT_GE(platform::Clock::now() - begin, 200ms);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().verdict, Verdict::kStuck) << second.error().message();
    EXPECT_EQ(second.error().step, "request");
    EXPECT_EQ(rng->stats().given_up, 1U);
    EXPECT_FALSE(rng->failed().has_value()) << "slow is not broken";
    bench.remove();
  }
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
