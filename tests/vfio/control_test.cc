// SPDX-License-Identifier: Apache-2.0
// Silencing a function, the proof that it is silent, notices, and giving it back.
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include <cerrno>

#include "tests/vfio/support.h"
#include "vfio/faults.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Notice = device::DeviceControl::Notice;
using testing::HasSubstr;

using VfioControl = VfioTest;

TEST_F(VfioControl, QuietIsProvenByAResetWithBusMasteringOff) {
  const auto backend = open();
  auto& control = backend->control();
  EXPECT_FALSE(control.proven_quiet()) << "nothing has been done yet";
  ASSERT_TRUE(control.set_bus_master(true));
  EXPECT_EQ(function.command() & PCI_COMMAND_MASTER, PCI_COMMAND_MASTER);
  ASSERT_TRUE(control.set_bus_master(false));
  EXPECT_FALSE(control.proven_quiet()) << "no reset yet";
  ASSERT_TRUE(control.reset(soon()));
  EXPECT_EQ(function.resets, 1U);
  EXPECT_TRUE(control.proven_quiet());
  function.pending = true;
  EXPECT_FALSE(control.proven_quiet()) << "a transaction is still under way";
  function.pending = false;
  ASSERT_TRUE(control.set_bus_master(true));
  ASSERT_TRUE(control.set_bus_master(false));
  EXPECT_FALSE(control.proven_quiet()) << "it has been a bus master since";
}

TEST_F(VfioControl, ADriversOwnCommandWriteVoidsTheProof) {
  const auto backend = open();
  ASSERT_TRUE(backend->control().reset(soon()));
  EXPECT_TRUE(backend->control().proven_quiet());
  backend->config_write(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
  EXPECT_FALSE(backend->control().proven_quiet());
  backend->config_write(PCI_COMMAND, 2, 0);
  EXPECT_FALSE(backend->control().proven_quiet());
}

TEST_F(VfioControl, AResetWhileBusMasterProvesNothing) {
  const auto backend = open();
  ASSERT_TRUE(backend->control().set_bus_master(true));
  ASSERT_TRUE(backend->control().reset(soon()));  // the kernel restores the command register
  EXPECT_FALSE(backend->control().proven_quiet());
  ASSERT_TRUE(backend->control().set_bus_master(false));
  EXPECT_FALSE(backend->control().proven_quiet());
}

TEST_F(VfioControl, ADeviceThatStaysBusMasterIsAnError) {
  const auto backend = open();
  ASSERT_TRUE(backend->control().set_bus_master(true));
  function.stuck_master = true;
  const auto off = backend->control().set_bus_master(false);
  ASSERT_FALSE(off);
  EXPECT_EQ(off.error().code, Errc::kDevice);
}

TEST_F(VfioControl, AResetThatTheKernelIsTooBusyForIsTriedAgain) {
  const auto backend = open();
  function.reset_busy = 3;
  ASSERT_TRUE(backend->control().reset(soon()));
  EXPECT_EQ(function.resets, 1U);
  function.reset_busy = 1 << 30;
  const auto late = backend->control().reset(Deadline::after(std::chrono::milliseconds(5)));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::kTimeout);
}

TEST_F(VfioControl, AResetIsNotTriedAgainWhileTheKernelRemovesTheDevice) {
  const auto backend = open();
  function.reset_busy = 1 << 30;
  kernel->raise(function, VFIO_PCI_REQ_IRQ_INDEX, 0);
  const auto refused = backend->control().reset(Deadline::after(std::chrono::hours(1)));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
}

TEST_F(VfioControl, APassedDeadlineBeginsNoReset) {
  const auto backend = open();
  const auto late = backend->control().reset(Deadline::after(std::chrono::nanoseconds(0)));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::kTimeout);
  EXPECT_EQ(function.resets, 0U);
}

TEST_F(VfioControl, WithoutAResetItsMemoryIsTakenAwayInstead) {
  function.has_reset = false;
  const auto backend = open();
  auto memory = backend->dma().alloc({.len = 4096}).value();
  const std::uint64_t iova = memory->iova();
  EXPECT_FALSE(backend->control().proven_quiet())
      << "that was a question, but nobody has tried to reset it yet" << kernel->dma_mappings();
  const auto reset = backend->control().reset(soon());
  ASSERT_FALSE(reset);
  EXPECT_EQ(reset.error().code, Errc::kUnavailable);
  EXPECT_THAT(reset.error().message(), HasSubstr("no function reset"));
  ASSERT_TRUE(backend->control().set_bus_master(true));
  EXPECT_FALSE(backend->control().proven_quiet()) << "still a bus master";
  EXPECT_EQ(kernel->dma_mappings(), 1U);
  ASSERT_TRUE(backend->control().set_bus_master(false));
  EXPECT_TRUE(backend->control().proven_quiet());
  EXPECT_EQ(kernel->dma_mappings(), 0U);
  memory->va()[5] = std::byte{1};  // it is memory of this process all the same
  memory.reset();
  const auto next = backend->dma().alloc({.len = 4096}).value();
  EXPECT_NE(next->iova(), iova) << "a late write must not find something new there";
}

TEST_F(VfioControl, ThatProofNeedsAContainerOfItsOwnAndTranslatedMemory) {
  function.has_reset = false;
  auto& other_function = kernel->add("0000:01:00.1");
  const auto backend = open();
  static_cast<void>(backend->control().reset(soon()));
  auto memory = backend->dma().alloc({.len = 4096}).value();
  {
    const auto other = open(other_function.address);
    EXPECT_FALSE(backend->control().proven_quiet());
    EXPECT_EQ(kernel->dma_mappings(), 1U) << "nothing was taken away for a proof that fails";
  }
  auto physical = backend->dma().alloc({.len = 4096, .kind = device::DmaKind::kPhysical}).value();
  EXPECT_FALSE(backend->control().proven_quiet());
  physical.reset();
  EXPECT_TRUE(backend->control().proven_quiet());
}

TEST_F(VfioControl, AnUnmapThatIsNotConfirmedProvesNothing) {
  expect_clean = false;
  function.reset_refusal = ENOTTY;
  auto backend = open();
  const auto memory = backend->dma().alloc({.len = 4096}).value();
  EXPECT_EQ(backend->control().reset(soon()).error().sys_errno, ENOTTY);
  kernel->short_unmap = true;
  EXPECT_FALSE(backend->control().proven_quiet());
  kernel->short_unmap = false;
  backend.reset();
}

TEST_F(VfioControl, AWithdrawalShowsAtTheDescriptorAndForEver) {
  const auto backend = open();
  auto& control = backend->control();
  ASSERT_GE(control.notice_fd(), 0);
  EXPECT_FALSE(readable(control.notice_fd()));
  EXPECT_EQ(control.notice(), Notice::kNone);
  kernel->raise(function, VFIO_PCI_REQ_IRQ_INDEX, 0);
  EXPECT_TRUE(readable(control.notice_fd()));
  EXPECT_FALSE(control.present()) << "also for who has not asked for the notice";
  EXPECT_EQ(control.notice(), Notice::kWithdrawn);
  EXPECT_TRUE(readable(control.notice_fd())) << "who waits for it is not robbed of it by who asks";
  // It can still be silenced before it is given back.
  EXPECT_TRUE(control.set_bus_master(false));
  EXPECT_TRUE(control.reset(soon()));
  EXPECT_TRUE(control.proven_quiet());
  control.give_back();
  EXPECT_EQ(control.notice(), Notice::kWithdrawn);
  EXPECT_FALSE(control.present());
}

TEST_F(VfioControl, AnErrorIsToldApartFromAWithdrawal) {
  const auto backend = open();
  kernel->raise(function, VFIO_PCI_ERR_IRQ_INDEX, 0);
  kernel->raise(function, VFIO_PCI_REQ_IRQ_INDEX, 0);
  EXPECT_EQ(backend->control().notice(), Notice::kError);
  EXPECT_FALSE(backend->control().present());
}

TEST_F(VfioControl, AFunctionWithoutNoticesHasNoDescriptor) {
  function.request = function.error = false;
  {
    const auto backend = open();
    EXPECT_EQ(backend->control().notice_fd(), -1);
    EXPECT_EQ(backend->control().notice(), Notice::kNone);
    EXPECT_TRUE(backend->control().present());
  }
  function.request = true;
  const auto backend = open();
  kernel->raise(function, VFIO_PCI_REQ_IRQ_INDEX, 0);
  EXPECT_EQ(backend->control().notice(), Notice::kWithdrawn);
}

TEST_F(VfioControl, AbandonedItReadsOnesButCanBeSilenced) {
  const auto backend = open();
  ASSERT_TRUE(backend->control().set_bus_master(true));
  backend->bar_write(4, 0, 4, 0x1234);
  backend->control().abandon();
  backend->control().abandon();
  EXPECT_EQ(backend->config_read(0, 2), 0xffffU);
  EXPECT_EQ(backend->bar_read(4, 0, 4), 0xffffffffU);
  backend->bar_write(4, 0, 4, 0);
  backend->config_write(PCI_COMMAND, 2, 0xff);
  EXPECT_TRUE(backend->control().present());
  EXPECT_TRUE(backend->control().set_bus_master(false));
  EXPECT_TRUE(backend->control().reset(soon()));
  EXPECT_TRUE(backend->control().proven_quiet());
  std::uint32_t behind = 0;
  ASSERT_EQ(::pread(function.memory, &behind, 4, 4 * FakeKernel::kBarSpan), 4);
  EXPECT_EQ(behind, 0x1234U);
}

TEST_F(VfioControl, GivenBackItFreesTheGroupAndCanBeOpenedAgain) {
  const auto backend = open();
  auto memory = backend->dma().alloc({.len = 4096}).value();
  backend->control().give_back();
  EXPECT_EQ(kernel->dma_mappings(), 0U);
  EXPECT_TRUE(backend->control().proven_quiet()) << "its container leads nowhere any more";
  EXPECT_TRUE(backend->control().set_bus_master(false));
  EXPECT_EQ(backend->control().set_bus_master(true).error().code, Errc::kState);
  EXPECT_EQ(backend->control().reset(soon()).error().code, Errc::kUnavailable);
  EXPECT_TRUE(backend->irqs().disable());
  EXPECT_FALSE(backend->dma().alloc({.len = 4096}));
  const auto again = open();
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->control().present());
}

TEST_F(VfioControl, OneOfAGroupIsGivenBackWithoutHarmToTheOther) {
  auto& other_function = kernel->add("0000:01:00.1");
  const auto backend = open();
  const auto other = open(other_function.address);
  const auto memory = other->dma().alloc({.len = 4096}).value();
  backend->control().give_back();
  EXPECT_FALSE(kernel->device_open(function));
  EXPECT_TRUE(other->control().present());
  EXPECT_EQ(kernel->dma_mappings(), 1U);
}

TEST_F(VfioControl, AFunctionThatHasLeftTheBusIsNotPresent) {
  const auto backend = open();
  std::ranges::fill(function.config, std::uint8_t{0xff});
  EXPECT_FALSE(backend->control().present());
  EXPECT_TRUE(backend->control().set_bus_master(false));
  EXPECT_EQ(backend->control().set_bus_master(true).error().verdict, Verdict::kGone);
  EXPECT_FALSE(backend->control().proven_quiet());
}

TEST_F(VfioControl, TheIommusFaultsOfThisFunctionAreEvidence) {
  const std::string fault =
      "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0xdead000 [fault reason 0x05] PTE Write access "
      "is not set";
  kernel->log = {"3,1,1,-;" + fault + " from before\n"};
  const auto backend = open();
  EXPECT_THAT(backend->control().evidence().faults, testing::IsEmpty());
  kernel->log.push_back("3,2,2,-;DMAR: DRHD: handling fault status reg 2\n");
  kernel->log.push_back("3,3,3,-;" + fault + "\n SUBSYSTEM=x\n");
  kernel->log.push_back("3,4,4,-;DMAR: [DMA Read] Request device [01:00.1] fault addr 0x1000\n");
  EXPECT_THAT(backend->control().evidence().faults, testing::ElementsAre(fault));
  EXPECT_THAT(backend->control().evidence().faults, testing::ElementsAre(fault)) << "asked again it says the same";
}

TEST_F(VfioControl, ALogThatMayNotBeReadIsOneLineThatSaysSo) {
  kernel->refusals = {{"open /dev/kmsg", EPERM}};
  const auto backend = open();
  EXPECT_THAT(backend->control().evidence().faults, testing::IsEmpty());
  EXPECT_THAT(backend->control().evidence().unreadable, HasSubstr("CAP_SYSLOG"));
}

TEST(VfioFaults, OnlyAFaultOfTheFunctionCounts) {
  using vfio::fault_in_record;
  constexpr const char* kAddress = "0000:65:00.0";
  EXPECT_EQ(
      fault_in_record("3,1,1,-;vfio-pci 0000:65:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x1]\n", kAddress),
      "vfio-pci 0000:65:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x1]");
  EXPECT_EQ(
      fault_in_record("3,1,1,-;vfio-pci 0000:65:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal)\n", kAddress),
      "vfio-pci 0000:65:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal)");
  EXPECT_EQ(fault_in_record("3,1,1,-;vfio-pci 0000:66:00.0: PCIe Bus Error: severity=Corrected\n", kAddress), "");
  EXPECT_EQ(fault_in_record("6,1,1,-;vfio-pci 0000:65:00.0: enabling device", kAddress), "");
  EXPECT_EQ(fault_in_record("6,1,1,-;pci 0000:65:00.0: Adding to iommu group 12", kAddress), "");
  EXPECT_EQ(fault_in_record("6,1,1,-;DMAR: fault, Request device [165:00.0]", kAddress), "");
  EXPECT_EQ(fault_in_record("no record at all", kAddress), "");
  EXPECT_EQ(fault_in_record("", kAddress), "");
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
