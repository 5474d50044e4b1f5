// SPDX-License-Identifier: Apache-2.0
// The driver of docs/writing-a-driver.md, on QEMU's own edu device and on one that does not answer.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "device/context.h"
#include "drivers/edu/edu.h"
#include "emulation/interposer/interposer.h"
#include "emulation/qemu/qemu.h"
#include "tests/pci/fake_backend.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

using namespace std::chrono_literals;

constexpr int kNode = 1;

std::vector<std::byte> pattern(std::size_t size, unsigned salt) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + salt + (i >> 8));
  return bytes;
}

/// A context of two nodes that knows the driver.
class EduTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = device::Context::create({.engine = {.topology = Topology::synthetic("numa:2 core:2").value()}});
    ASSERT_TRUE(made) << made.error().message();
    context_ = std::move(*made);
    context_->add_driver(pci::make_driver<edu::Edu>("edu"));
  }
  /// QEMU's, on node 1.
  std::shared_ptr<pci::Backend> open(bool messages = true) {
    emulation::DeviceSpec spec{.uri = "qemu:edu", .model = "edu", .words = {}};
    spec.node = kNode;
    auto opened = emulation::qemu::open(spec, cables_, {.messages = messages});
    if (!opened) {
      ADD_FAILURE() << opened.error().message() << " / " << opened.error().advice;
      return nullptr;
    }
    return std::move(*opened);
  }
  device::Report probe(std::shared_ptr<pci::Backend> backend, platform::Nanoseconds timeout = 5s) {
    auto made = pci::Device::create(std::move(backend));
    if (!made) {
      ADD_FAILURE() << made.error().message();
      return {};
    }
    device_ = std::move(*made);
    EXPECT_TRUE(context_->add_device(device_));
    device::Report report = context_->probe(device_, timeout);
    device::Bound* bound = context_->bound(*device_);
    edu_ = bound == nullptr ? nullptr : device::find<edu::Edu>(*bound);
    return report;
  }
  void remove() {
    edu_ = nullptr;
    const auto removed = context_->remove(device_, Deadline::after(5s));
    EXPECT_TRUE(removed) << removed.error().message();
    EXPECT_FALSE(device_->state()->quarantined());
  }
  static Deadline soon() { return Deadline::after(10s); }

  emulation::Cables cables_;
  std::unique_ptr<device::Context> context_;
  std::shared_ptr<pci::Device> device_;
  edu::Edu* edu_ = nullptr;
};

/// With message interrupts and with its line.
class QemuEdu : public EduTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    EduTest::SetUp();
    auto backend = open(GetParam());
    ASSERT_TRUE(backend);
    EXPECT_EQ(backend->irqs().kind(), GetParam() ? device::IrqSource::Kind::kMessage : device::IrqSource::Kind::kLine);
    const device::Report report = probe(std::move(backend));
    ASSERT_TRUE(report.ok()) << (report.error ? report.error->message() : report.result);
    ASSERT_NE(edu_, nullptr);
  }
};
INSTANTIATE_TEST_SUITE_P(Interrupts, QemuEdu, testing::Bool(),
                         [](const auto& messages) { return messages.param ? "Msi" : "Intx"; });

TEST_P(QemuEdu, ComputesFactorialsOneAfterAnother) {
  std::uint32_t expected = 1;
  for (std::uint32_t n = 0; n <= 12; expected *= ++n) {
    const auto answer = edu_->factorial(n, soon());
    ASSERT_TRUE(answer) << answer.error().message();
    EXPECT_EQ(*answer, expected) << n;
  }
  remove();
}

TEST_P(QemuEdu, CarriesBytesIntoTheDeviceAndOutOfIt) {
  const auto whole = pattern(edu::kBufferSize, 1);
  const auto part = pattern(100, 77);
  ASSERT_TRUE(edu_->store(whole, 0, soon()));
  ASSERT_TRUE(edu_->store(part, 1000, soon()));
  std::vector<std::byte> expected = whole;
  std::copy(part.begin(), part.end(), expected.begin() + 1000);
  std::vector<std::byte> seen(edu::kBufferSize);
  const auto loaded = edu_->load(seen, 0, soon());
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_EQ(seen, expected);
  std::vector<std::byte> tail(7);
  ASSERT_TRUE(edu_->load(tail, edu::kBufferSize - tail.size(), soon()));
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(), expected.end() - 7));
  remove();
}

TEST_P(QemuEdu, RunsItsBottomHalfOnTheProbingCpuOfTheDevicesNode) {
  ASSERT_TRUE(edu_->factorial(5, soon()));
  const Topology::Cpu* cpu = context_->engine().topology().find(edu_->bottom_half_cpu());
  ASSERT_NE(cpu, nullptr);
  EXPECT_EQ(cpu->node, kNode);
  remove();
}

TEST_P(QemuEdu, RefusesWhatTheDeviceCannotDoAndGoesOn) {
  std::array<std::byte, 2> two{};
  std::vector<std::byte> more(edu::kBufferSize + 1);
  for (const auto& refused : {edu_->store(two, edu::kBufferSize - 1, soon()), edu_->store(more, 0, soon()),
                              edu_->load(two, ~std::size_t{0}, soon()), edu_->load({}, 0, soon())}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kInvalid) << refused.error().message();
  }
  const auto too_many_bits = edu_->factorial(13, soon());
  ASSERT_FALSE(too_many_bits);
  EXPECT_EQ(too_many_bits.error().code, Errc::kInvalid);
  const auto answer = edu_->factorial(3, soon());
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(*answer, 6U);
  remove();
}

// doc: missed
TEST_P(QemuEdu, AMissedDeadlineIsAVerdictAndTheDeviceIsUsedNoMore) {
  std::array<std::byte, 16> bytes{};
  // The model lets 100 ms pass before it begins a transfer.
  const auto late = edu_->store(bytes, 0, Deadline::after(5ms));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().verdict, Verdict::kStuck) << late.error().message();
  EXPECT_EQ(late.error().step, "dma");
  const auto after = edu_->factorial(3, soon());
  ASSERT_FALSE(after);
  EXPECT_EQ(after.error().code, Errc::kState);
  remove();
  const device::Report again = context_->probe(device_, 5s);
  ASSERT_TRUE(again.ok()) << again.result;
  const auto answer = device::find<edu::Edu>(*context_->bound(*device_))->factorial(4, soon());
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(*answer, 24U);
}
// doc: end

TEST_F(EduTest, AnInterruptThatIsLostIsAVerdictAtTheDeadline) {
  auto backend = open();
  ASSERT_TRUE(backend);
  auto deaf = emulation::interposer::wrap(std::move(backend), "irq-lost");
  ASSERT_TRUE(deaf) << deaf.error().message();
  ASSERT_TRUE(probe(std::move(*deaf)).ok());
  const platform::TimePoint begin = platform::Clock::now();
  const auto answer = edu_->factorial(3, Deadline::after(50ms));
  EXPECT_GE(platform::Clock::now() - begin, 50ms);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().verdict, Verdict::kStuck);
  EXPECT_EQ(answer.error().step, "factorial");
  remove();
}

TEST_F(EduTest, ADeviceThatDoesNotAnswerIsStuckInItsProbe) {
  auto dead = std::make_shared<test::FakeBackend>();  // its registers read back what was written, not the inverse
  dead->bars[0] = {.size = 4096, .io = false, .mapping = nullptr};
  const device::Report report = probe(dead, 100ms);
  EXPECT_EQ(report.result, "stuck");
  EXPECT_EQ(report.step, "liveness");
  EXPECT_EQ(report.reg, "liveness");
  EXPECT_EQ(edu_, nullptr);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
