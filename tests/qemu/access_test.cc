// SPDX-License-Identifier: Apache-2.0
// Config space and BARs of QEMU devices.
#include <gtest/gtest.h>
#include <linux/virtio_pci.h>

#include "tests/qemu/support.h"

namespace upci::qemu_tests {
namespace {

std::uint32_t identity(pci::Backend& backend) { return backend.config_read(PCI_VENDOR_ID, 4); }

TEST(QemuConfig, ModernVirtioNetShowsItsIdentityAndMemoryBars) {
  const auto backend = open_or_fail("virtio-net-pci", {{"disable-legacy", "on"}});
  ASSERT_TRUE(backend);
  EXPECT_EQ(identity(*backend), 0x10411af4U);
  EXPECT_EQ(backend->name(), "qemu:virtio-net-pci");
  EXPECT_GT(backend->bar(4).size, 0U);
  EXPECT_FALSE(backend->bar(4).io);
  EXPECT_EQ(backend->bar(4).mapping, nullptr);
  EXPECT_EQ(backend->bar(5).size, 0U) << "the upper half of BAR 4 is not a BAR";
}

TEST(QemuConfig, LegacyVirtioNetHasAPortBarThatAnswers) {
  for (const Words& words : {Words{{"disable-modern", "on"}, {"disable-legacy", "off"}},
                             Words{{"disable-modern", "on"}}, Words{{"disable-legacy", "off"}}}) {
    const auto backend = open_or_fail("virtio-net-pci", words);
    ASSERT_TRUE(backend);
    EXPECT_EQ(identity(*backend), 0x10001af4U);
    ASSERT_TRUE(backend->bar(0).io);
    backend->bar_write(0, VIRTIO_PCI_STATUS, 1, 1);
    EXPECT_EQ(backend->bar_read(0, VIRTIO_PCI_STATUS, 1), 1U);
    backend->bar_write(0, VIRTIO_PCI_STATUS, 1, 0);
    EXPECT_EQ(backend->bar_read(0, VIRTIO_PCI_STATUS, 1), 0U);
  }
}

TEST(QemuConfig, TheNodeIsTheOneThatTheSpecClaims) {
  emulation::DeviceSpec wanted = spec("edu");
  wanted.node = 3;
  const auto backend = try_open(wanted);
  ASSERT_TRUE(backend);
  EXPECT_EQ((*backend)->node(), 3);
}

TEST(QemuConfig, AccessesThatNoBusHasReadAllOnesAndWriteNothing) {
  const auto backend = open_or_fail("edu");
  ASSERT_TRUE(backend);
  EXPECT_EQ(backend->config_read(4096, 1), 0xffffffffU);
  EXPECT_EQ(backend->config_read(2, 4), 0xffffffffU);
  EXPECT_EQ(backend->config_read(0, 3), 0xffffffffU);
  EXPECT_EQ(backend->config_read(0x800, 4), 0xffffffffU) << "a conventional device has 256 bytes";
  EXPECT_EQ(backend->bar_read(6, 0, 4), ~std::uint64_t{0});
  EXPECT_EQ(backend->bar_read(1, 0, 4), ~std::uint64_t{0}) << "edu has BAR 0 only";
  EXPECT_EQ(backend->bar_read(0, backend->bar(0).size - 3, 4), ~std::uint64_t{0});
  EXPECT_EQ(backend->bar_read(0, ~std::uint64_t{0}, 8), ~std::uint64_t{0});
  backend->bar_write(0, backend->bar(0).size, 4, 0);
  backend->config_write(0xfff, 4, 0);
  EXPECT_EQ(identity(*backend), 0x11e81234U);
}

TEST(QemuConfig, EveryWidthReadsItsPart) {
  const auto backend = open_or_fail("edu");
  ASSERT_TRUE(backend);
  EXPECT_EQ(backend->config_read(0, 1), 0x34U);
  EXPECT_EQ(backend->config_read(1, 1), 0x12U);
  EXPECT_EQ(backend->config_read(2, 2), 0x11e8U);
  EXPECT_EQ(backend->config_read(0, 4), 0x11e81234U);
}

TEST(QemuBar, EduComputesAFactorial) {
  const auto backend = open_or_fail("edu");
  ASSERT_TRUE(backend);
  EXPECT_EQ(backend->bar_read(0, edu::kId, 4) & 0xffffU, 0xedU);
  backend->bar_write(0, edu::kLiveness, 4, 0x12345678);
  EXPECT_EQ(backend->bar_read(0, edu::kLiveness, 4), 0xedcba987U);
  backend->bar_write(0, edu::kFactorial, 4, 10);
  const Deadline deadline = Deadline::after(std::chrono::seconds(5));
  while ((backend->bar_read(0, edu::kStatus, 4) & 1U) != 0 && !deadline.expired()) {}
  EXPECT_EQ(backend->bar_read(0, edu::kFactorial, 4), 3628800U);
}

TEST(QemuBar, ManyThreadsMayAccessTheDevice) {
  const auto backend = open_or_fail("edu");
  ASSERT_TRUE(backend);
  std::vector<platform::Thread> threads;
  platform::Atomic<unsigned> wrong{0};
  for (int i = 0; i < 4; ++i) {
    auto thread = platform::Thread::create({.name = "accessor"}, [&] {
      for (int j = 0; j < 300; ++j) {
        backend->bar_write(0, edu::kIrqStatus, 4, 0);
        if (backend->config_read(0, 4) != 0x11e81234U) ++wrong;
        if (backend->bar_read(0, edu::kId, 4) != 0x010000edU) ++wrong;
      }
    });
    ASSERT_TRUE(thread);
    threads.push_back(std::move(*thread));
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0U);
}

class QemuModel : public testing::TestWithParam<const char*> {};

TEST_P(QemuModel, ComesUpWithAllItsBarsPlaced) {
  const Words words = std::string(GetParam()) == "nvme" ? Words{{"serial", "x"}} : Words{};
  const auto backend = open_or_fail(GetParam(), words);
  ASSERT_TRUE(backend);
  EXPECT_TRUE(backend->control().present());
  bool any = false;
  for (unsigned i = 0; i < 6; ++i) any = any || backend->bar(i).size != 0;
  EXPECT_TRUE(any);
  const std::uint32_t command = backend->config_read(PCI_COMMAND, 2);
  EXPECT_EQ(command & PCI_COMMAND_MASTER, std::uint32_t{PCI_COMMAND_MASTER});
  EXPECT_EQ(command & PCI_COMMAND_MEMORY, std::uint32_t{PCI_COMMAND_MEMORY});
}

INSTANTIATE_TEST_SUITE_P(Models, QemuModel,
                         testing::Values("virtio-net-pci", "virtio-net-pci-transitional", "virtio-blk-pci",
                                         "virtio-rng-pci", "nvme", "e1000", "e1000e", "edu", "pci-testdev",
                                         "qemu-xhci"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace upci::qemu_tests
