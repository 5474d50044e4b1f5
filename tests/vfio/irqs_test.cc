// SPDX-License-Identifier: Apache-2.0
// Interrupts as eventfds: MSI-X, MSI, INTx, their masks and their CPUs.
#include <linux/vfio.h>

#include <cerrno>

#include "base/event_fd.h"
#include "tests/vfio/support.h"
#include "vfio/irqs.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Kind = device::IrqSource::Kind;
using testing::HasSubstr;

class VfioIrqs : public VfioTest {
 protected:
  VfioIrqs() {
    for (int i = 0; i < 5; ++i) {
      events.push_back(EventFd::create().value());
      fds.push_back(events.back().fd());
    }
  }
  std::vector<EventFd> events;
  std::vector<int> fds;
};

TEST_F(VfioIrqs, MsixComesBeforeMsiAndThatBeforeTheLine) {
  function.msi = 2;
  EXPECT_EQ(open()->irqs().count(), 4U);
  function.msix = 0;
  EXPECT_EQ(open()->irqs().count(), 2U);
  EXPECT_EQ(open()->irqs().kind(), Kind::kMessage);
  function.msi = 0;
  EXPECT_EQ(open()->irqs().count(), 1U);
  EXPECT_EQ(open()->irqs().kind(), Kind::kLine);
  function.intx = 0;
  const auto backend = open();
  EXPECT_EQ(backend->irqs().count(), 0U);
  const auto none = backend->irqs().enable(std::span(fds).first(1));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().advice, "poll the device");
}

TEST_F(VfioIrqs, EachVectorHasItsOwnEventfd) {
  const auto backend = open();
  ASSERT_TRUE(backend->irqs().enable(std::span(fds).first(3)));
  kernel->raise(function, VFIO_PCI_MSIX_IRQ_INDEX, 1);
  EXPECT_EQ(events[0].drain(), 0U);
  EXPECT_EQ(events[1].drain(), 1U);
  ASSERT_TRUE(backend->irqs().disable());
  kernel->raise(function, VFIO_PCI_MSIX_IRQ_INDEX, 1);
  EXPECT_EQ(events[1].drain(), 0U);
  ASSERT_TRUE(backend->irqs().disable()) << "twice is as good as once";
}

TEST_F(VfioIrqs, ASecondRoutingReplacesTheFirst) {
  const auto backend = open();
  ASSERT_TRUE(backend->irqs().enable(std::span(fds).first(3)));
  ASSERT_TRUE(backend->irqs().enable(std::span(fds).subspan(3, 1)));
  kernel->raise(function, VFIO_PCI_MSIX_IRQ_INDEX, 0);
  kernel->raise(function, VFIO_PCI_MSIX_IRQ_INDEX, 1);
  EXPECT_EQ(events[3].drain(), 1U);
  EXPECT_EQ(events[0].drain() + events[1].drain(), 0U);
}

TEST_F(VfioIrqs, TooManyOrNoneAreInvalidAndTooFewInTheKernelAreSaid) {
  const auto backend = open();
  EXPECT_EQ(backend->irqs().enable(fds).error().code, Errc::kInvalid);
  EXPECT_EQ(backend->irqs().enable({}).error().code, Errc::kInvalid);
  const int bad = -1;
  EXPECT_EQ(backend->irqs().enable(std::span(&bad, 1)).error().code, Errc::kInvalid);
  kernel->vectors_left = 2;
  const auto few = backend->irqs().enable(std::span(fds).first(3));
  ASSERT_FALSE(few);
  EXPECT_THAT(few.error().message(), HasSubstr("2 left"));
  EXPECT_TRUE(backend->irqs().enable(std::span(fds).first(2)));
}

TEST_F(VfioIrqs, AMaskedVectorIsSilentAndUnmaskingLosesNothing) {
  const auto backend = open();
  ASSERT_TRUE(backend->irqs().enable(std::span(fds).first(2)));
  ASSERT_TRUE(backend->irqs().set_mask(1, true));
  ASSERT_TRUE(backend->irqs().set_mask(1, true));
  kernel->raise(function, VFIO_PCI_MSIX_IRQ_INDEX, 1);
  EXPECT_EQ(events[1].drain(), 0U);
  kernel->raise(function, VFIO_PCI_MSIX_IRQ_INDEX, 0);
  EXPECT_EQ(events[0].drain(), 1U);
  ASSERT_TRUE(backend->irqs().set_mask(1, false));
  EXPECT_EQ(events[1].drain(), 1U) << "something may have come while it was masked";
  ASSERT_TRUE(backend->irqs().set_mask(1, false));
  EXPECT_EQ(events[1].drain(), 0U);
  EXPECT_EQ(backend->irqs().set_mask(2, true).error().code, Errc::kState);  // there is one, not enabled
  EXPECT_EQ(backend->irqs().set_mask(99, true).error().code, Errc::kInvalid);
}

TEST_F(VfioIrqs, TheLineIsMaskedByEachSignalUntilItIsUnmasked) {
  function.msix = 0;
  const auto backend = open();
  ASSERT_TRUE(backend->irqs().enable(std::span(fds).first(1)));
  kernel->raise(function, VFIO_PCI_INTX_IRQ_INDEX, 0);
  kernel->raise(function, VFIO_PCI_INTX_IRQ_INDEX, 0);
  EXPECT_EQ(events[0].drain(), 1U);
  ASSERT_TRUE(backend->irqs().set_mask(0, false));
  kernel->raise(function, VFIO_PCI_INTX_IRQ_INDEX, 0);
  EXPECT_EQ(events[0].drain(), 1U);
  ASSERT_TRUE(backend->irqs().set_mask(0, false));
  ASSERT_TRUE(backend->irqs().set_mask(0, true));
  kernel->raise(function, VFIO_PCI_INTX_IRQ_INDEX, 0);
  EXPECT_EQ(events[0].drain(), 0U);
}

TEST_F(VfioIrqs, AffinityIsWrittenToTheLinuxInterruptOfTheVector) {
  const auto backend = open();
  const auto early = backend->irqs().set_affinity(1, 1);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, Errc::kUnavailable);
  ASSERT_TRUE(backend->irqs().enable(std::span(fds).first(3)));
  ASSERT_TRUE(backend->irqs().set_affinity(1, 3));
  const std::map<std::pair<unsigned, unsigned>, std::string> expected = {{{VFIO_PCI_MSIX_IRQ_INDEX, 1}, "3"}};
  EXPECT_EQ(function.affinity, expected);
}

TEST_F(VfioIrqs, AffinityOfMsiAndOfASharedLine) {
  function.msix = 0;
  function.msi = 1;
  {
    const auto backend = open();
    ASSERT_TRUE(backend->irqs().enable(std::span(fds).first(1)));
    EXPECT_TRUE(backend->irqs().set_affinity(0, 1));
  }
  function.msi = 0;
  const auto backend = open();
  ASSERT_TRUE(backend->irqs().enable(std::span(fds).first(1)));
  EXPECT_TRUE(backend->irqs().set_affinity(0, 1));
}

TEST_F(VfioIrqs, AnAffinityThatIsRefusedOrNotFollowedIsReported) {
  const auto backend = open();
  ASSERT_TRUE(backend->irqs().enable(std::span(fds).first(1)));
  kernel->refusals = {{"writing smp_affinity_list", EACCES}};
  auto refused = backend->irqs().set_affinity(0, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  EXPECT_EQ(refused.error().sys_errno, EACCES);
  EXPECT_NE(refused.error().advice, "");
  kernel->refusals.clear();
  kernel->kept_effective = {{"effective_affinity_list", 0}, {"smp_affinity_list", 0}};
  refused = backend->irqs().set_affinity(0, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  EXPECT_THAT(refused.error().message(), HasSubstr("has put it on 0"));
  // One that moves with its next signal is as good as moved.
  kernel->kept_effective = {{"effective_affinity_list", 0}};
  EXPECT_TRUE(backend->irqs().set_affinity(0, 1));
}

TEST(VfioLinuxIrq, OnlyAWholeNameCounts) {
  const std::string text =
      "           CPU0\n"
      "  9:          0   IO-APIC   9-fasteoi   acpi, vfio-intx(0000:01:00.0)\n"
      " 30:          7   PCI-MSI 524288-edge      vfio-msix[10](0000:01:00.0)\n"
      " 31:          7   PCI-MSI 524289-edge      vfio-msix[1](0000:01:00.0)";
  EXPECT_EQ(vfio::find_linux_irq(text, "vfio-msix[1](0000:01:00.0)"), 31U);
  EXPECT_EQ(vfio::find_linux_irq(text, "vfio-msix[10](0000:01:00.0)"), 30U);
  EXPECT_EQ(vfio::find_linux_irq(text, "vfio-intx(0000:01:00.0)"), 9U);
  EXPECT_EQ(vfio::find_linux_irq(text, "msix[1](0000:01:00.0)"), std::nullopt);
  EXPECT_EQ(vfio::find_linux_irq(text, "vfio-msix[1](0000:01:00"), std::nullopt);
  EXPECT_EQ(vfio::find_linux_irq("", "x"), std::nullopt);
  EXPECT_EQ(vfio::find_linux_irq("ERR: vfio-intx(a)", "vfio-intx(a)"), std::nullopt) << "a line without a number";
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
