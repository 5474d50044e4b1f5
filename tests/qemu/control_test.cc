// SPDX-License-Identifier: Apache-2.0
// Presence, bus mastering, reset, quiet and the end of QEMU devices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <cstring>

#include "tests/qemu/support.h"

namespace upci::qemu_tests {
namespace {

Deadline soon() { return Deadline::after(std::chrono::seconds(5)); }

bool bus_master(pci::Backend& backend) { return (backend.config_read(PCI_COMMAND, 2) & PCI_COMMAND_MASTER) != 0; }

/// Lets the edu device write 8 bytes of its own buffer to `target`; true when it has said that it is done.
bool edu_writes_to(pci::Backend& backend, std::uint64_t target) {
  backend.bar_write(0, edu::kDmaSource, 8, edu::kDmaBuffer);
  backend.bar_write(0, edu::kDmaTarget, 8, target);
  backend.bar_write(0, edu::kDmaCount, 8, 8);
  backend.bar_write(0, edu::kDmaCommand, 8, edu::kDmaStart | edu::kDmaToMemory);
  const Deadline deadline = soon();
  while ((backend.bar_read(0, edu::kDmaCommand, 8) & edu::kDmaStart) != 0) {
    if (deadline.expired()) return false;
  }
  return true;
}

TEST(QemuControl, BusMasteringIsSwitchedInTheCommandRegister) {
  const auto backend = open_or_fail("edu");
  ASSERT_TRUE(backend);
  EXPECT_TRUE(bus_master(*backend));
  ASSERT_TRUE(backend->control().set_bus_master(false));
  EXPECT_FALSE(bus_master(*backend));
  ASSERT_TRUE(backend->control().set_bus_master(true));
  EXPECT_TRUE(bus_master(*backend));
}

TEST(QemuControl, WithoutBusMasteringTheDeviceWritesNoMemory) {
  const auto backend = open_or_fail("edu");
  ASSERT_TRUE(backend);
  const auto memory = backend->dma().alloc({.len = 4096, .mask = 0x0fffffff});
  ASSERT_TRUE(memory);
  const std::byte* const bytes = (*memory)->va();
  std::memset((*memory)->va(), 0x5a, 4096);
  ASSERT_TRUE(backend->control().set_bus_master(false));
  ASSERT_TRUE(edu_writes_to(*backend, (*memory)->iova()));
  EXPECT_EQ(bytes[0], std::byte{0x5a});
  ASSERT_TRUE(backend->control().set_bus_master(true));
  ASSERT_TRUE(edu_writes_to(*backend, (*memory)->iova()));
  EXPECT_EQ(bytes[0], std::byte{0}) << "edu's buffer holds zeroes";
}

class QemuReset : public testing::TestWithParam<Words> {};

/// Modern virtio on a PCI Express port has FLR, legacy-only and conventional devices have not: their bus is reset.
TEST_P(QemuReset, PutsTheDeviceBackAndKeepsItUsable) {
  const auto backend = open_or_fail("virtio-net-pci", GetParam());
  ASSERT_TRUE(backend);
  // The driver's status byte: in the port BAR of a legacy device, in BAR 4 of a modern one.
  const bool legacy = backend->bar(0).io;
  const unsigned bar = legacy ? 0 : 4;
  const std::uint64_t status = legacy ? 18 : 20;
  backend->bar_write(bar, status, 1, 3);
  ASSERT_EQ(backend->bar_read(bar, status, 1), 3U);
  ASSERT_TRUE(backend->control().reset(soon()));
  EXPECT_EQ(backend->bar_read(bar, status, 1), 0U);
  EXPECT_TRUE(bus_master(*backend)) << "what it was before";
  EXPECT_TRUE(backend->control().present());
  backend->bar_write(bar, status, 1, 1);
  EXPECT_EQ(backend->bar_read(bar, status, 1), 1U);
}

INSTANTIATE_TEST_SUITE_P(Interfaces, QemuReset,
                         testing::Values(Words{{"disable-legacy", "on"}}, Words{{"disable-legacy", "off"}},
                                         Words{{"disable-modern", "on"}},
                                         Words{{"disable-legacy", "on"}, {"x-pcie-flr-init", "off"}}));

TEST(QemuControl, ResetOfAConventionalDeviceResetsIt) {
  const auto backend = open_or_fail("edu");
  ASSERT_TRUE(backend);
  backend->bar_write(0, edu::kIrqRaise, 4, 1);
  ASSERT_EQ(backend->bar_read(0, edu::kIrqStatus, 4), 1U);
  ASSERT_TRUE(backend->control().reset(soon()));
  EXPECT_EQ(backend->bar_read(0, edu::kId, 4), 0x010000edU) << "its BAR is in its place again";
}

TEST(QemuControl, QuietIsProvenByBusMasteringOffAndAReset) {
  for (const bool legacy : {false, true}) {
    const auto backend = open_or_fail("virtio-net-pci", legacy ? Words{{"disable-modern", "on"}} : Words{});
    ASSERT_TRUE(backend);
    device::DeviceControl& control = backend->control();
    EXPECT_FALSE(control.proven_quiet());
    ASSERT_TRUE(control.set_bus_master(false));
    EXPECT_FALSE(control.proven_quiet()) << "it has not been reset";
    ASSERT_TRUE(control.reset(soon()));
    EXPECT_FALSE(bus_master(*backend));
    EXPECT_TRUE(control.proven_quiet());
    ASSERT_TRUE(control.set_bus_master(true));
    EXPECT_FALSE(control.proven_quiet());
    backend->bar_write(legacy ? 0 : 4, legacy ? 18 : 20, 1, 1);
    ASSERT_TRUE(control.set_bus_master(false));
    EXPECT_FALSE(control.proven_quiet()) << "it was told something while it was a bus master";
  }
}

TEST(QemuControl, QuietIsAlsoProvenWhenTheResetComesFirst) {
  const auto backend = open_or_fail("virtio-net-pci");
  ASSERT_TRUE(backend);
  ASSERT_TRUE(backend->control().reset(soon()));
  EXPECT_FALSE(backend->control().proven_quiet());
  ASSERT_TRUE(backend->control().set_bus_master(false));
  EXPECT_TRUE(backend->control().proven_quiet());
}

TEST(QemuControl, AbandoningEndsQemuAndProvesQuiet) {
  const auto backend = open_or_fail("virtio-net-pci");
  ASSERT_TRUE(backend);
  const auto memory = backend->dma().alloc({.len = 4096});
  ASSERT_TRUE(memory);
  backend->control().abandon();
  backend->control().abandon();
  EXPECT_EQ(backend->config_read(0, 2), 0xffffU);
  EXPECT_EQ(backend->bar_read(4, 20, 1), 0xffU);
  EXPECT_FALSE(backend->control().present());
  EXPECT_TRUE(backend->control().proven_quiet());
  (*memory)->va()[4095] = std::byte{1};  // the memory stays
}

TEST(QemuControl, AQemuKilledFromOutsideIsADeviceThatIsGone) {
  const auto backend = open_or_fail("virtio-net-pci");
  ASSERT_TRUE(backend);
  const std::vector<pid_t> children = qemu_children();
  ASSERT_EQ(children.size(), 1U);
  ASSERT_EQ(::kill(children[0], SIGKILL), 0);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(children[0]), &info, WEXITED | WNOWAIT), 0);
  backend->bar_write(4, 20, 1, 1);
  EXPECT_EQ(backend->bar_read(4, 20, 1), 0xffU);
  EXPECT_EQ(backend->config_read(PCI_VENDOR_ID, 4), 0xffffffffU);
  device::DeviceControl& control = backend->control();
  EXPECT_FALSE(control.present());
  const Result<void> reset = control.reset(soon());
  ASSERT_FALSE(reset);
  EXPECT_EQ(reset.error().verdict, Verdict::kGone);
  EXPECT_FALSE(control.set_bus_master(true));
  EXPECT_TRUE(control.set_bus_master(false)) << "a device that is gone masters no bus";
  EXPECT_TRUE(control.proven_quiet());
  const auto eventfd = EventFd::create();
  ASSERT_TRUE(eventfd);
  const std::array<int, 1> fds = {eventfd->fd()};
  const Result<void> enabled = backend->irqs().enable(fds);
  ASSERT_FALSE(enabled);
  EXPECT_EQ(enabled.error().verdict, Verdict::kGone);
  EXPECT_TRUE(backend->irqs().disable());
}

/// A stopped QEMU answers nothing, which is the nearest thing to a register access that does not return.
class StoppedQemu {
 public:
  explicit StoppedQemu(pid_t pid) : pid_(pid) { EXPECT_EQ(::kill(pid, SIGSTOP), 0); }
  ~StoppedQemu() { ::kill(pid_, SIGCONT); }

 private:
  const pid_t pid_;
};

TEST(QemuControl, AnAccessThatQemuDoesNotAnswerEndsAtItsLimit) {
  const auto backend = open_or_fail("edu", {}, {.access_limit = std::chrono::milliseconds(200)});
  ASSERT_TRUE(backend);
  const StoppedQemu stopped(qemu_children().at(0));
  const platform::TimePoint start = platform::Clock::now();
  EXPECT_EQ(backend->bar_read(0, edu::kId, 4), 0xffffffffU);
  EXPECT_GE(platform::Clock::now() - start, std::chrono::milliseconds(200));
  EXPECT_LT(platform::Clock::now() - start, std::chrono::seconds(5));
  EXPECT_FALSE(backend->control().present());
  EXPECT_TRUE(backend->control().proven_quiet()) << "a QEMU that is declared gone is ended";
}

TEST(QemuControl, AbandoningFreesAnAccessThatHangs) {
  const auto backend = open_or_fail("edu", {}, {.access_limit = std::chrono::seconds(60)});
  ASSERT_TRUE(backend);
  const StoppedQemu stopped(qemu_children().at(0));
  platform::Atomic<std::uint64_t> read{0};
  auto thread = platform::Thread::create({.name = "hangs"}, [&] { read = backend->bar_read(0, edu::kId, 4); });
  ASSERT_TRUE(thread);
  const platform::TimePoint start = platform::Clock::now();
  backend->control().abandon();  // whether the access has begun or not
  thread->join();
  EXPECT_LT(platform::Clock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(read.load(), 0xffffffffU);
  EXPECT_TRUE(backend->control().proven_quiet());
}

TEST(QemuControl, ClosingAStoppedQemuDoesNotHang) {
  auto backend = open_or_fail("virtio-net-pci");
  ASSERT_TRUE(backend);
  const pid_t pid = qemu_children().at(0);
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  backend.reset();
  EXPECT_THAT(qemu_children(), testing::IsEmpty());
}

}  // namespace
}  // namespace upci::qemu_tests
