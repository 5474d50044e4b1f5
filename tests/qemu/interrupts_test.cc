// SPDX-License-Identifier: Apache-2.0
// Interrupts of QEMU devices as eventfds: MSI-X by a virtio entropy source, MSI by edu.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <array>
#include <utility>

#include "tests/qemu/ringers.h"

namespace upci::qemu_tests {
namespace {

std::vector<EventFd> make_eventfds(std::size_t count) {
  std::vector<EventFd> result;
  for (std::size_t i = 0; i < count; ++i) result.push_back(std::move(*EventFd::create()));
  return result;
}

std::vector<int> numbers(const std::vector<EventFd>& eventfds) {
  std::vector<int> result;
  for (const EventFd& each : eventfds) result.push_back(each.fd());
  return result;
}

enum class Kind { kMsix, kMsi };

class QemuIrq : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    const bool msix = GetParam() == Kind::kMsix;
    backend_ = msix ? open_msix_device(2) : open_or_fail("edu");
    ASSERT_TRUE(backend_);
    ASSERT_EQ(backend_->irqs().count(), msix ? 2U : 1U);
    if (msix) {
      ringer_ = std::make_unique<RngRinger>(*backend_);
    } else {
      ringer_ = std::make_unique<EduRinger>(*backend_);
    }
  }
  Result<void> enable(const EventFd& eventfd) {
    const std::array<int, 1> fds = {eventfd.fd()};
    return backend_->irqs().enable(fds);
  }
  void raise() { ringer_->raise(0); }

  std::shared_ptr<pci::Backend> backend_;
  std::unique_ptr<Ringer> ringer_;
  EventFd eventfd_ = std::move(*EventFd::create());
};

TEST_P(QemuIrq, EachMessageIsOneSignal) {
  ASSERT_TRUE(enable(eventfd_));
  EXPECT_EQ(eventfd_.drain(), 0U) << "enabling signals nothing";
  for (int i = 0; i < 10; ++i) {
    raise();
    EXPECT_EQ(await_signal(eventfd_), 1U);
  }
}

TEST_P(QemuIrq, NothingIsSignalledAfterDisable) {
  ASSERT_TRUE(enable(eventfd_));
  ASSERT_TRUE(backend_->irqs().disable());
  raise();
  EXPECT_EQ(eventfd_.drain(), 0U);
  EXPECT_TRUE(backend_->irqs().disable()) << "idempotent";
}

TEST_P(QemuIrq, EnablingAgainReplacesTheRouting) {
  for (int i = 0; i < 20; ++i) {
    const EventFd next = std::move(*EventFd::create());
    const Result<void> enabled = enable(next);
    ASSERT_TRUE(enabled) << i << ": " << enabled.error().message();
    raise();
    EXPECT_EQ(await_signal(next), 1U);
    EXPECT_EQ(eventfd_.drain(), 0U);
  }
}

TEST_P(QemuIrq, WhatComesUnderMaskIsSignalledOnceItIsUnmasked) {
  ASSERT_TRUE(enable(eventfd_));
  ASSERT_TRUE(backend_->irqs().set_mask(0, true));
  raise();
  EXPECT_EQ(eventfd_.drain(), 0U);
  ASSERT_TRUE(backend_->irqs().set_mask(0, false));
  EXPECT_EQ(await_signal(eventfd_), 1U);
  raise();
  EXPECT_EQ(await_signal(eventfd_), 1U);
}

TEST_P(QemuIrq, UnmaskingWithoutAMessageSignalsNothing) {
  ASSERT_TRUE(enable(eventfd_));
  ASSERT_TRUE(backend_->irqs().set_mask(0, true));
  ASSERT_TRUE(backend_->irqs().set_mask(0, false));
  EXPECT_EQ(eventfd_.drain(), 0U);
}

TEST_P(QemuIrq, TheRoutingAndTheMaskOutliveAReset) {
  ASSERT_TRUE(enable(eventfd_));
  ASSERT_TRUE(backend_->control().reset(Deadline::after(std::chrono::seconds(5))));
  raise();
  EXPECT_EQ(await_signal(eventfd_), 1U);
  ASSERT_TRUE(backend_->irqs().set_mask(0, true));
  ASSERT_TRUE(backend_->control().reset(Deadline::after(std::chrono::seconds(5))));
  raise();
  EXPECT_EQ(eventfd_.drain(), 0U);
}

TEST_P(QemuIrq, TheEventfdsStayNonBlocking) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(enable(eventfd_));
    EXPECT_NE(::fcntl(eventfd_.fd(), F_GETFL) & O_NONBLOCK, 0) << "QEMU clears that for a moment";
    EXPECT_EQ(eventfd_.drain(), 0U);
  }
}

TEST_P(QemuIrq, WrongArgumentsAreInvalidAndAffinityIsUnavailable) {
  device::IrqSource& irqs = backend_->irqs();
  EXPECT_EQ(irqs.enable({}).error().code, Errc::kInvalid);
  const std::vector<EventFd> many = make_eventfds(irqs.count() + 1);
  EXPECT_EQ(irqs.enable(numbers(many)).error().code, Errc::kInvalid);
  EXPECT_EQ(irqs.set_mask(0, true).error().code, Errc::kInvalid) << "nothing is enabled";
  ASSERT_TRUE(enable(eventfd_));
  EXPECT_EQ(irqs.set_mask(1, true).error().code, Errc::kInvalid);
  EXPECT_EQ(irqs.set_affinity(0, 0).error().code, Errc::kUnavailable);
  const std::array<int, 1> closed = {-1};
  EXPECT_FALSE(irqs.enable(closed));
}

TEST_P(QemuIrq, RoutingsLeaveNoDescriptorsHere) {
  ASSERT_TRUE(enable(eventfd_));
  ASSERT_TRUE(backend_->irqs().disable());
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(enable(eventfd_));
    ASSERT_TRUE(backend_->irqs().disable());
  }
  EXPECT_EQ(open_descriptors(), before);
}

INSTANTIATE_TEST_SUITE_P(Kinds, QemuIrq, testing::Values(Kind::kMsix, Kind::kMsi),
                         [](const auto& param) { return param.param == Kind::kMsix ? "msix" : "msi"; });

TEST(QemuMsix, EachVectorHasItsOwnEventfdAndMask) {
  const auto backend = open_msix_device(5);
  ASSERT_TRUE(backend);
  ASSERT_EQ(backend->irqs().count(), 5U);
  RngRinger ringer(*backend);
  const std::vector<EventFd> eventfds = make_eventfds(5);
  ASSERT_TRUE(backend->irqs().enable(numbers(eventfds)));
  for (unsigned raised = 0; raised < 5; ++raised) {
    ringer.raise(raised);
    EXPECT_EQ(await_signal(eventfds[raised]), 1U);
    for (const EventFd& each : eventfds) EXPECT_EQ(each.drain(), 0U);
  }
  ASSERT_TRUE(backend->irqs().set_mask(3, true));
  ringer.raise(3);
  ringer.raise(2);
  EXPECT_EQ(await_signal(eventfds[2]), 1U);
  EXPECT_EQ(eventfds[3].drain(), 0U);
}

TEST(QemuMsix, FewerVectorsThanOfferedMayBeEnabled) {
  const auto backend = open_msix_device(5);
  ASSERT_TRUE(backend);
  RngRinger ringer(*backend);
  const std::vector<EventFd> eventfds = make_eventfds(2);
  ASSERT_TRUE(backend->irqs().enable(numbers(eventfds)));
  ringer.raise(4);
  for (const EventFd& each : eventfds) EXPECT_EQ(each.drain(), 0U);
  ringer.raise(1);
  EXPECT_EQ(await_signal(eventfds[1]), 1U);
}

TEST(QemuMsix, VirtioNetHasAVectorForEachQueueAndOneForItsConfiguration) {
  for (const Words& words : {Words{}, Words{{"disable-modern", "on"}}, Words{{"disable-legacy", "off"}}}) {
    const auto backend = open_or_fail("virtio-net-pci", words);
    ASSERT_TRUE(backend);
    EXPECT_GE(backend->irqs().count(), 3U);
  }
}

TEST(QemuMsix, RoutesManyMoreTimesThanMsiCould) {
  const auto backend = open_msix_device(2);
  ASSERT_TRUE(backend);
  RngRinger ringer(*backend);
  const std::vector<EventFd> eventfds = make_eventfds(2);
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(backend->irqs().enable(numbers(eventfds)));
  ringer.raise(1);
  EXPECT_EQ(await_signal(eventfds[1]), 1U);
}

TEST(QemuMsi, SaysSoWhenItsRoutingsAreUsedUp) {
  const auto backend = open_or_fail("edu");
  ASSERT_TRUE(backend);
  const std::vector<EventFd> eventfds = make_eventfds(1);
  for (int i = 0; i < 128; ++i) ASSERT_TRUE(backend->irqs().enable(numbers(eventfds))) << i;
  const Result<void> refused = backend->irqs().enable(numbers(eventfds));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  EXPECT_TRUE(backend->control().present());
}

TEST(QemuMsix, IsPreferredToALine) {
  const auto backend = open_msix_device(2);
  ASSERT_TRUE(backend);
  EXPECT_EQ(backend->irqs().kind(), device::IrqSource::Kind::kMessage);
  EXPECT_EQ(backend->irqs().count(), 2U);
}

}  // namespace
}  // namespace upci::qemu_tests
