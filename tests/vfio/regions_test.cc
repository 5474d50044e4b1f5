// SPDX-License-Identifier: Apache-2.0
// Config space and BARs: mapped where they may be, by system calls otherwise.
#include <cerrno>

#include <linux/pci_regs.h>

#include "tests/vfio/support.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using testing::HasSubstr;

using VfioRegions = VfioTest;

TEST_F(VfioRegions, MemoryBarsAreMappedAndPortBarsTrap) {
  const auto backend = open();
  EXPECT_TRUE(backend->bar(0).io);
  EXPECT_EQ(backend->bar(0).size, 32U);
  EXPECT_EQ(backend->bar(0).mapping, nullptr);
  EXPECT_FALSE(backend->bar(4).io);
  ASSERT_NE(backend->bar(4).mapping, nullptr);
  EXPECT_EQ(backend->bar(2).size, 0U);
  EXPECT_EQ(backend->bar(6).size, 0U);

  backend->bar_write(0, 18, 1, 0xab);
  EXPECT_EQ(backend->bar_read(0, 18, 1), 0xabU);
  EXPECT_THAT(kernel->labels, testing::Contains("pwrite BAR 0"));
  backend->bar_write(4, 16, 8, 0x1122334455667788);
  EXPECT_EQ(backend->bar(4).mapping[16], std::byte{0x88}) << "little-endian, in the mapping";
  EXPECT_EQ(backend->bar_read(4, 16, 1), 0x88U);
  EXPECT_EQ(backend->bar_read(4, 16, 2), 0x7788U);
  EXPECT_EQ(backend->bar_read(4, 16, 4), 0x55667788U);
  EXPECT_EQ(backend->bar_read(4, 16, 8), 0x1122334455667788U);
  EXPECT_EQ(backend->bar_read(4, 17, 2), 0x6677U) << "out of alignment it takes a system call";
}

TEST_F(VfioRegions, OutsideOfABarAllIsOnes) {
  const auto backend = open();
  EXPECT_EQ(backend->bar_read(0, 31, 2) & 0xffff, 0xffffU);
  EXPECT_EQ(backend->bar_read(0, ~std::uint64_t{0}, 1) & 0xff, 0xffU);
  EXPECT_EQ(backend->bar_read(2, 0, 4) & 0xffffffff, 0xffffffffU);
  EXPECT_EQ(backend->bar_read(7, 0, 4) & 0xffffffff, 0xffffffffU);
  EXPECT_EQ(backend->config_read(256, 4), 0xffffffffU);
  EXPECT_EQ(backend->config_read(254, 4), 0xffffffffU);
  backend->bar_write(9, 0, 4, 1);
  backend->config_write(300, 4, 1);
}

TEST_F(VfioRegions, SparseAreasMapOnlyABarThatTheyCover) {
  function.bars[1].sparse = {{{0x0, 0x800}}};
  function.bars[2] = {.size = 0x3000, .sparse = {{{0x1000, 0x2000}, {0x0, 0x1000}}}};
  function.bars[3] = {.size = 0x3000, .sparse = {{{0x0, 0x1000}, {0x2000, 0x1000}}}};
  function.bars[4].sparse = {std::vector<std::pair<std::uint64_t, std::uint64_t>>{}};
  function.bars[5] = {.size = 0x1000, .sparse = {{{0x800, ~std::uint64_t{0}}}}};
  const auto backend = open();
  EXPECT_EQ(backend->bar(1).mapping, nullptr);
  EXPECT_NE(backend->bar(2).mapping, nullptr);
  EXPECT_EQ(backend->bar(3).mapping, nullptr) << "a hole in the middle";
  EXPECT_EQ(backend->bar(4).mapping, nullptr);
  EXPECT_EQ(backend->bar(5).mapping, nullptr) << "an area that wraps around";
  backend->bar_write(3, 0x1004, 4, 0x1234);
  EXPECT_EQ(backend->bar_read(3, 0x1004, 4), 0x1234U);
}

TEST_F(VfioRegions, ABarThatCannotBeMappedTraps) {
  kernel->refusals = {{"mmap BAR", ENOMEM}};
  const auto backend = open();
  ASSERT_TRUE(backend);
  EXPECT_EQ(backend->bar(4).mapping, nullptr);
  backend->bar_write(4, 8, 4, 77);
  EXPECT_EQ(backend->bar_read(4, 8, 4), 77U);
}

TEST_F(VfioRegions, SizesAndChainsThatCannotBeAreRefused) {
  kernel->bad_region_offset = ~std::uint64_t{0} - 4096;
  auto backend = try_open();
  ASSERT_FALSE(backend);
  EXPECT_EQ(backend.error().code, Errc::kDevice);
  EXPECT_THAT(backend.error().message(), HasSubstr("VFIO_DEVICE_GET_REGION_INFO"));
  kernel->bad_region_offset.reset();
  for (const std::uint32_t offset : {4U, 32U, 90U, 0xffffffffU}) {
    kernel->bad_region_chain = offset;
    EXPECT_FALSE(try_open()) << offset;
  }
  kernel->bad_region_chain.reset();
  function.config.resize(32);
  EXPECT_FALSE(try_open()) << "a config space smaller than its header";
  function.config.resize(256);
}

TEST_F(VfioRegions, AFailedReadIsAllOnes) {
  const auto backend = open();
  kernel->refusals = {{"pread config 0x0", EIO}, {"pread BAR 0", EIO}};
  EXPECT_EQ(backend->config_read(0, 2), 0xffffU);
  EXPECT_EQ(backend->bar_read(0, 0, 1), 0xffU);
  EXPECT_FALSE(backend->control().present());
}

TEST_F(VfioRegions, MemoryDecodingStaysOnWhileBarsAreMapped) {
  const auto backend = open();
  backend->config_write(PCI_COMMAND, 2, 0);
  EXPECT_EQ(function.command() & PCI_COMMAND_MEMORY, PCI_COMMAND_MEMORY);
  EXPECT_EQ(function.command() & PCI_COMMAND_IO, 0);
  backend->config_write(PCI_COMMAND, 4, 0);
  backend->config_write(PCI_COMMAND, 1, 0);
  EXPECT_EQ(function.command() & PCI_COMMAND_MEMORY, PCI_COMMAND_MEMORY);
  backend->config_write(0x44, 2, 3);
  EXPECT_EQ(function.config[0x44] & 3, 0) << "nor does it go to sleep";
  backend->config_write(PCI_LATENCY_TIMER, 1, 0);
  EXPECT_EQ(function.config[PCI_LATENCY_TIMER], 0);
}

TEST_F(VfioRegions, WithoutMappedBarsDecodingIsTheDriversOwn) {
  function.bars = {FakeBar{.size = 32, .io = true}};
  const auto backend = open();
  backend->config_write(PCI_COMMAND, 2, 0);
  EXPECT_EQ(function.command(), 0);
}

TEST_F(VfioRegions, GivenBackRegistersReadOnesAndTheDeviceIsFree) {
  function.bars[4].size = 5 << 20;  // more than one chunk
  const auto backend = open();
  const auto memory = backend->dma().alloc({.len = 4096}).value();
  std::byte* const registers = backend->bar(4).mapping;
  registers[8] = std::byte{1};
  backend->control().give_back();
  EXPECT_FALSE(kernel->device_open(function)) << "no descriptor and no mapping holds it";
  for (const std::size_t at : {std::size_t{0}, std::size_t{8}, std::size_t{2} << 20, (std::size_t{5} << 20) - 1}) {
    EXPECT_EQ(registers[at], std::byte{0xff}) << at;
  }
  registers[8] = std::byte{2};
  std::uint8_t behind = 0;
  ASSERT_EQ(::pread(function.memory, &behind, 1, 4 * FakeKernel::kBarSpan + 8), 1);
  EXPECT_EQ(behind, 1) << "a late store does not reach the device";
  EXPECT_EQ(backend->bar_read(4, 8, 4), 0xffffffffU);
  EXPECT_EQ(backend->bar_read(0, 0, 1), 0xffU);
  EXPECT_EQ(backend->config_read(0, 2), 0xffffU);
  backend->config_write(4, 2, 7);
  backend->bar_write(0, 0, 1, 7);
  EXPECT_FALSE(backend->control().present());
  memory->va()[0] = std::byte{3};
  EXPECT_EQ(memory->va()[0], std::byte{3}) << "memory stays valid";
  backend->control().give_back();
}

TEST_F(VfioRegions, WithoutOnesToMapItReadsZeroesButIsGivenBackAllTheSame) {
  const auto backend = open();
  std::byte* const registers = backend->bar(4).mapping;
  kernel->fail_at = kernel->calls + 3;  // the two notices come first
  kernel->fail_errno = ENOMEM;
  backend->control().give_back();
  EXPECT_EQ(kernel->failed, "mmap");
  EXPECT_FALSE(kernel->device_open(function));
  EXPECT_NE(registers, nullptr);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
