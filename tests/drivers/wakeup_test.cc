// SPDX-License-Identifier: Apache-2.0
// One wake-up leads from the eventfd to the bottom half.
#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

std::uint64_t wakeups(const Engine& engine, std::vector<int> cpus) {
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  std::uint64_t sum = 0;
  for (const int cpu : cpus) sum += engine.stats(cpu).wakeups;
  return sum;
}

class Wakeups : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Policies, Wakeups, testing::Bool(), policy_name);

TEST_P(Wakeups, AreNoMoreThanTheInterrupts) {
  Bench bench;
  const device::Report report = bench.probe_emu(emu_spec({"modern"}), bind(GetParam()));
  ASSERT_TRUE(report.ok()) << describe(report);
  virtio_net::Nic* nic = bench.nic();
  ASSERT_NE(nic, nullptr);
  const Engine& engine = bench.context->engine();
  const std::uint64_t interrupts_before = nic->stats().interrupts;
  const std::uint64_t wakeups_before = wakeups(engine, nic->stats().cpus);
  loop_by_interrupt(*nic, {.frames = 2000, .window = 1});
  const std::uint64_t interrupts = nic->stats().interrupts - interrupts_before;
  // A worker that was about to sleep when the test began may wake once for nothing.
  const std::uint64_t woken = wakeups(engine, nic->stats().cpus) - wakeups_before;
  EXPECT_GE(interrupts, 1000U);
  EXPECT_LE(static_cast<double>(woken), 1.05 * static_cast<double>(interrupts) + 1);
  bench.remove();
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
