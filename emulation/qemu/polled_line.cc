// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/polled_line.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/pci_regs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

namespace upci::inline UPCI_VARIANT::emulation::qemu {

std::unique_ptr<PolledLine> PolledLine::find(platform::Mutex& access, Qtest& qtest, Fabric& fabric) {
  const std::scoped_lock lock(access);
  const std::uint32_t pin = fabric.config_read(Fabric::Slot::kDevice, PCI_INTERRUPT_PIN, 1);
  if (pin < 1 || pin > 4) return nullptr;  // INTA to INTD
  return std::unique_ptr<PolledLine>(new PolledLine(access, qtest, fabric));
}

PolledLine::~PolledLine() { static_cast<void>(disable()); }

Result<void> PolledLine::enable(std::span<const int> eventfds) {
  if (eventfds.size() != 1 || eventfds[0] < 0) {
    return fail(Errc::kInvalid, fmt::format("a line interrupt has one vector; {} were asked for", eventfds.size()));
  }
  UPCI_TRY(disable());
  const std::scoped_lock lock(control_);
  eventfd_.reset(::fcntl(eventfds[0], F_DUPFD_CLOEXEC, 0));
  if (!eventfd_) return fail_errno("cannot keep the interrupt's eventfd");
  if (!topology_) { UPCI_TRY_ASSIGN(topology_, Topology::detect()); }
  masked_.store(false, std::memory_order_release);
  return start();
}

/// Under control_.
Result<void> PolledLine::start() {
  const auto& cpus = topology_->cpus();
  const auto wanted = std::ranges::find(cpus, os_cpu_, &Topology::Cpu::os_cpu);
  cpu_ = (wanted != cpus.end() ? *wanted : cpus.front()).id;
  PerCpuThread::Options options;
  options.name = "irqpoll/%u";
  options.cpus = {cpu_};
  options.callbacks.thread_should_run = [this](int) { return !masked_.load(std::memory_order_acquire); };
  options.callbacks.thread_fn = [this](int) { look(); };
  pause_ = kShortestPause;
  UPCI_TRY_ASSIGN(thread_, PerCpuThread::create(*topology_, std::move(options)));
  thread_->wake(cpu_);
  return {};
}

/// By the thread.
void PolledLine::look() noexcept {
  if (asserted()) {
    pause_ = kShortestPause;
    masked_.store(true, std::memory_order_release);  // before the signal: its top half unmasks
    const std::uint64_t one = 1;
    while (::write(eventfd_.get(), &one, sizeof one) < 0 && errno == EINTR) {}
    return;
  }
  platform::this_thread::sleep_until(platform::Clock::now() + pause_);
  pause_ = std::min(pause_ + pause_ / 8, kLongestPause);
}

bool PolledLine::asserted() {
  const std::scoped_lock lock(access_);
  const std::uint32_t status = fabric_.config_read(Fabric::Slot::kDevice, PCI_STATUS, 2);
  return qtest_.alive() && status != 0xffff && (status & PCI_STATUS_INTERRUPT) != 0;
}

Result<void> PolledLine::disable() {
  const std::scoped_lock lock(control_);
  masked_.store(true, std::memory_order_release);
  thread_.reset();
  eventfd_.reset();
  return {};
}

Result<void> PolledLine::set_mask(unsigned vector, bool masked) {
  if (vector != 0) return fail(Errc::kInvalid, fmt::format("a line interrupt has no vector {}", vector));
  const std::scoped_lock lock(control_);
  if (thread_ == nullptr) return fail(Errc::kState, "the line interrupt is not enabled");
  masked_.store(masked, std::memory_order_release);
  if (!masked) thread_->wake(cpu_);
  return {};
}

Result<void> PolledLine::set_affinity(unsigned vector, int os_cpu) {
  if (vector != 0) return fail(Errc::kInvalid, fmt::format("a line interrupt has no vector {}", vector));
  const std::scoped_lock lock(control_);
  if (!topology_) { UPCI_TRY_ASSIGN(topology_, Topology::detect()); }
  if (std::ranges::find(topology_->cpus(), os_cpu, &Topology::Cpu::os_cpu) == topology_->cpus().end()) {
    return fail(Errc::kUnavailable, fmt::format("this process may not run on CPU {}", os_cpu));
  }
  if (os_cpu == os_cpu_) return {};
  os_cpu_ = os_cpu;
  if (thread_ == nullptr) return {};
  thread_.reset();
  return start();
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
