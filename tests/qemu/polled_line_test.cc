// SPDX-License-Identifier: Apache-2.0
// INTx of QEMU devices, by a polling thread: a virtio entropy source without messages.
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <utility>

#include "tests/qemu/ringers.h"

namespace upci::qemu_tests {
namespace {

/// The CPUs that a thread of this process with that name may run on, as /proc has them; empty without such a thread.
std::string cpus_of_thread(const std::string& name) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string comm;
    std::getline(std::ifstream(entry.path() / "comm") >> std::ws, comm);
    if (!comm.starts_with(name)) continue;
    std::ifstream status(entry.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("Cpus_allowed_list:")) return line.substr(line.find_last_of(" \t") + 1);
    }
  }
  return {};
}

class QemuLine : public testing::Test {
 protected:
  void SetUp() override {
    backend_ = open_msix_device(0);
    ASSERT_TRUE(backend_);
    ASSERT_EQ(backend_->irqs().count(), 1U);
    ASSERT_EQ(backend_->irqs().kind(), device::IrqSource::Kind::kLine);
    ringer_ = std::make_unique<RngRinger>(*backend_);
  }
  Result<void> enable(const EventFd& eventfd) {
    const std::array<int, 1> fds = {eventfd.fd()};
    return backend_->irqs().enable(fds);
  }
  /// Reading the ISR status ends the assertion (virtio 1.2, section 4.1.4.5.1).
  std::uint64_t read_isr() { return backend_->bar_read(0, VIRTIO_PCI_ISR, 1); }
  static void wait_for_some_looks() { platform::this_thread::sleep_until(platform::Clock::now() + kSomeLooks); }

  static constexpr platform::Nanoseconds kSomeLooks = std::chrono::milliseconds(20);
  std::shared_ptr<pci::Backend> backend_;
  std::unique_ptr<Ringer> ringer_;
  EventFd eventfd_ = std::move(*EventFd::create());
};

TEST_F(QemuLine, EachAssertionIsOneSignalWhichMasksTheLine) {
  ASSERT_TRUE(enable(eventfd_));
  for (int i = 0; i < 10; ++i) {
    ringer_->raise(0);
    EXPECT_EQ(await_signal(eventfd_), 1U);
    wait_for_some_looks();
    EXPECT_EQ(eventfd_.drain(), 0U) << "still asserted, but masked";
    EXPECT_EQ(read_isr(), 1U);
    ASSERT_TRUE(backend_->irqs().set_mask(0, false));
  }
}

TEST_F(QemuLine, ALineThatIsStillHeldIsSignalledAgainOnceUnmasked) {
  ASSERT_TRUE(enable(eventfd_));
  ringer_->raise(0);
  EXPECT_EQ(await_signal(eventfd_), 1U);
  ASSERT_TRUE(backend_->irqs().set_mask(0, false));
  EXPECT_EQ(await_signal(eventfd_), 1U);
}

TEST_F(QemuLine, WhatComesUnderMaskIsSignalledOnceItIsUnmasked) {
  ASSERT_TRUE(enable(eventfd_));
  ASSERT_TRUE(backend_->irqs().set_mask(0, true));
  wait_for_some_looks();  // one look may have begun before
  ringer_->raise(0);
  wait_for_some_looks();
  EXPECT_EQ(eventfd_.drain(), 0U);
  ASSERT_TRUE(backend_->irqs().set_mask(0, false));
  EXPECT_EQ(await_signal(eventfd_), 1U);
}

TEST_F(QemuLine, NothingIsSignalledAfterDisableAndTheThreadIsGone) {
  ASSERT_TRUE(enable(eventfd_));
  EXPECT_NE(cpus_of_thread("irqpoll/"), "");
  ASSERT_TRUE(backend_->irqs().disable());
  EXPECT_EQ(cpus_of_thread("irqpoll/"), "");
  ringer_->raise(0);
  wait_for_some_looks();
  EXPECT_EQ(eventfd_.drain(), 0U);
  EXPECT_EQ(backend_->irqs().set_mask(0, false).error().code, Errc::kState);
  ASSERT_TRUE(enable(eventfd_)) << "again";
  EXPECT_EQ(await_signal(eventfd_), 1U) << "it is asserted since then";
}

TEST_F(QemuLine, TheThreadFollowsTheAffinity) {
  for (const int cpu : platform::online_cpus()) {
    ASSERT_TRUE(backend_->irqs().set_affinity(0, cpu)) << cpu;
    if (backend_->irqs().set_mask(0, false).has_value()) {
      EXPECT_EQ(cpus_of_thread("irqpoll/"), std::to_string(cpu)) << "moved";
    }
    ASSERT_TRUE(enable(eventfd_));
    EXPECT_EQ(cpus_of_thread("irqpoll/"), std::to_string(cpu));
  }
  EXPECT_EQ(backend_->irqs().set_affinity(0, 100'000).error().code, Errc::kUnavailable);
  ringer_->raise(0);
  EXPECT_EQ(await_signal(eventfd_), 1U);
}

TEST_F(QemuLine, WrongArgumentsAreInvalid) {
  device::IrqSource& irqs = backend_->irqs();
  EXPECT_EQ(irqs.enable({}).error().code, Errc::kInvalid);
  const std::array<int, 1> closed = {-1};
  EXPECT_EQ(irqs.enable(closed).error().code, Errc::kInvalid);
  const std::array<int, 2> two = {eventfd_.fd(), eventfd_.fd()};
  EXPECT_EQ(irqs.enable(two).error().code, Errc::kInvalid);
  ASSERT_TRUE(enable(eventfd_));
  EXPECT_EQ(irqs.set_mask(1, true).error().code, Errc::kInvalid);
  EXPECT_EQ(irqs.set_affinity(1, 0).error().code, Errc::kInvalid);
}

TEST_F(QemuLine, AQemuThatEndsSignalsNothing) {
  ASSERT_TRUE(enable(eventfd_));
  backend_->control().abandon();
  wait_for_some_looks();
  EXPECT_EQ(eventfd_.drain(), 0U);
  EXPECT_TRUE(backend_->irqs().disable());
}

}  // namespace
}  // namespace upci::qemu_tests
