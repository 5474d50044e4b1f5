// SPDX-License-Identifier: Apache-2.0
// doc: includes
#include "drivers/edu/edu.h"

#include <fmt/format.h>

#include <cstring>
#include <mutex>

#include "base/blocking.h"
#include "device/wait.h"

namespace upci::inline UPCI_VARIANT::edu {
// doc: end

// doc: alive
static Result<std::uint64_t> check_alive(pci::Device& device, const pci::Bar& regs, Deadline deadline) {
  constexpr std::uint32_t kAsked = 0x55aa1234;
  regs.write<Regs::Liveness>(kAsked, "liveness");
  return device::wait_for_register(
      *device.state(), device.control(),
      {.step = "liveness",
       .reg = "liveness",
       .deadline = deadline,
       .all_ones = 0xffffffff,
       .read = [&] { return regs.read<Regs::Liveness>("liveness"); },
       .judge = [](auto value) { return value == ~kAsked ? device::WaitStep::kDone : device::WaitStep::kAgain; },
       .stuck_advice = "the device does not compute: reset it, or start its QEMU again"});
}
// doc: end

// doc: probe
Result<std::unique_ptr<pci::Bound>> Edu::probe(pci::Device& device, Deadline deadline) {
  std::unique_ptr<Edu> edu(new Edu(device));
  UPCI_TRY_ASSIGN(edu->regs_, device.bar(0));
  UPCI_TRY(check_alive(device, edu->regs_, deadline));
  UPCI_TRY_ASSIGN(edu->memory_, device.dma_alloc({.len = kBufferSize, .mask = kDmaMask, .node = device.node()}));
  UPCI_TRY(device.control().set_bus_master(true));
  UPCI_TRY_ASSIGN(edu->irqs_, device::IrqVectors::create(device, 1));
  edu->irqs_->set_handler<&Edu::top_half>(0, edu.get());
  UPCI_TRY(edu->irqs_->enable());  // last: from here on interrupts come
  edu->regs_.write<Regs::Status>(kRaiseWhenDone, "status");
  return edu;
}

Result<void> Edu::quiesce(Deadline) {
  regs_.write<Regs::Status>(0);
  return {};
}
// doc: end

// doc: halves
void Edu::top_half(device::Irq& irq) {
  const std::uint32_t events = regs_.read<Regs::IrqStatus>();
  regs_.write<Regs::IrqAck>(events);
  acked_.fetch_or(events);
  irq.queue(done_);
}

void Edu::bottom_half(Work&) {
  cpu_.store(device_.engine().current_worker_cpu());
  events_.fetch_or(acked_.exchange(0));
  platform::wake_word(&events_, 1);
}
// doc: end

// doc: wait
Result<void> Edu::begin() {
  if (late_) return fail(Errc::kState, "edu was late once", "remove the device and probe it again");
  events_.store(0);
  return {};
}

Result<void> Edu::finish(std::string_view what, std::uint32_t event, Deadline deadline) {
  for (std::uint32_t seen = events_.load(); (seen & event) == 0; seen = events_.load()) {
    late_ = deadline.expired();
    if (late_) {
      return fail_verdict(Verdict::kStuck, std::string(what), "interrupt_status",
                          fmt::format("{}: no interrupt for the {} by the deadline", device_.name(), what),
                          "probe the device again; allow more time if it is only slow");
    }
    BlockingScope blocking;
    platform::wait_word(events_, seen, deadline.when());
  }
  return {};
}
// doc: end

// doc: factorial
Result<std::uint32_t> Edu::factorial(std::uint32_t n, Deadline deadline) {
  if (n > 12) return fail(Errc::kInvalid, fmt::format("{}! has more than 32 bits", n), "ask for at most 12!");
  const std::lock_guard lock(in_use_);
  UPCI_TRY(begin());
  regs_.write<Regs::Factorial>(n);
  UPCI_TRY(finish("factorial", kFactorialDone, deadline));
  return regs_.read<Regs::Factorial>();
}
// doc: end

// doc: dma
Result<void> Edu::transfer(std::uint64_t from, std::uint64_t to, std::size_t size, std::uint64_t command,
                           Deadline deadline) {
  regs_.write<Regs::DmaSource>(from);
  regs_.write<Regs::DmaTarget>(to);
  regs_.write<Regs::DmaCount>(size);
  regs_.write<Regs::DmaCommand>(command | kStart | kRaise);
  return finish("dma", kDmaDone, deadline);
}

static Result<void> check_range(std::size_t at, std::size_t size) {
  if (size != 0 && at < kBufferSize && size <= kBufferSize - at) return {};
  return fail(Errc::kInvalid, fmt::format("{} bytes at {} are not within the device's {}", size, at, kBufferSize));
}

Result<void> Edu::store(std::span<const std::byte> from, std::size_t at, Deadline deadline) {
  UPCI_TRY(check_range(at, from.size()));
  const std::lock_guard lock(in_use_);
  UPCI_TRY(begin());
  std::memcpy(memory_.va(), from.data(), from.size());
  return transfer(memory_.iova(), kBufferAt + at, from.size(), 0, deadline);
}

Result<void> Edu::load(std::span<std::byte> to, std::size_t at, Deadline deadline) {
  UPCI_TRY(check_range(at, to.size()));
  const std::lock_guard lock(in_use_);
  UPCI_TRY(begin());
  UPCI_TRY(transfer(kBufferAt + at, memory_.iova(), to.size(), kToMemory, deadline));
  std::memcpy(to.data(), memory_.va(), to.size());
  return {};
}

}  // namespace upci::inline UPCI_VARIANT::edu
// doc: end
