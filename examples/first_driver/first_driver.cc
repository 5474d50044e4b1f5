// SPDX-License-Identifier: Apache-2.0
// A first driver: QEMU's `edu` device computes factorials and raises an interrupt when it has the answer.
//
//   build/bin/first_driver 10        prints 10! = 3628800
//
// QEMU docs/specs/edu describes the registers.
#include <charconv>
#include <cstdio>
#include <string_view>

#include "base/wait.h"
#include "device/context.h"
#include "device/irq.h"
#include "device/report_text.h"
#include "emulation/qemu/qemu.h"
#include "pci/device.h"

using namespace upci;

struct Regs {
  using Factorial = Reg32<0x08, RW>;
  using Status = Reg32<0x20, RW>;
  using IrqStatus = Reg32<0x24, RO>;
  using IrqAck = Reg32<0x64, WO>;
};
constexpr std::uint32_t kIrqWhenDone = 0x80;  // Status

class Edu final : public pci::Bound {
 public:
  static constexpr pci::DeviceId kIds[] = {{.vendor = 0x1234, .device = 0x11e8}};

  // Runs in a worker on a CPU of the device's node.
  static Result<std::unique_ptr<pci::Bound>> probe(pci::Device& device, Deadline) {
    auto edu = std::make_unique<Edu>();
    UPCI_TRY_ASSIGN(edu->regs_, device.bar(0));
    UPCI_TRY_ASSIGN(edu->irqs_, device::IrqVectors::create(device, 1));
    edu->irqs_->set_handler<&Edu::top_half>(0, edu.get());
    UPCI_TRY(edu->irqs_->enable());
    edu->regs_.write<Regs::Status>(kIrqWhenDone);
    return edu;
  }

  // The first half of remove. Interrupts, works and the device's reset are the framework's business after it.
  Result<void> quiesce(Deadline) override {
    regs_.write<Regs::Status>(0);
    return {};
  }

  // Once per instance: a Completion completes once.
  Result<std::uint32_t> factorial(std::uint32_t n, Deadline deadline) {
    regs_.write<Regs::Factorial>(n);
    if (!answered_.wait(deadline)) return fail(Errc::kTimeout, "edu did not answer");
    return answer_;
  }

 private:
  void top_half(device::Irq& irq) {
    regs_.write<Regs::IrqAck>(regs_.read<Regs::IrqStatus>());
    irq.queue(done_);
  }
  // May sleep, allocate, wait: it runs in a worker on the interrupt's CPU.
  void bottom_half(Work&) {
    answer_ = regs_.read<Regs::Factorial>();
    answered_.complete();
  }

  pci::Bar regs_;
  std::unique_ptr<device::IrqVectors> irqs_;
  std::uint32_t answer_ = 0;
  Completion answered_;
  Work done_{this, &Edu::bottom_half};
};

static Result<std::uint32_t> run(std::uint32_t n) {
  UPCI_TRY_ASSIGN(Topology topology, Topology::detect());
  UPCI_TRY_ASSIGN(auto context, device::Context::create({.engine = {.topology = std::move(topology)}}));
  context->add_driver(pci::make_driver<Edu>("edu"));

  emulation::Cables cables;
  UPCI_TRY_ASSIGN(auto backend, emulation::qemu::open({.uri = "qemu:edu", .model = "edu", .words = {}}, cables));
  UPCI_TRY_ASSIGN(auto device, pci::Device::create(std::move(backend)));
  UPCI_TRY(context->add_device(device));

  const device::Report report = context->probe(device, std::chrono::seconds(2));
  std::fputs(device::to_text(report).c_str(), stderr);
  if (!report.ok()) return fail(Errc::kState, "edu is not bound");
  return device::find<Edu>(*context->bound(*device))->factorial(n, Deadline::after(std::chrono::seconds(1)));
}

int main(int argc, char** argv) {
  const std::string_view text = argc > 1 ? argv[1] : "10";
  std::uint32_t n = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), n).ptr != text.data() + text.size() || n > 12) {
    std::fputs("usage: first_driver N, with N from 0 to 12\n", stderr);
    return 2;
  }
  const auto answer = run(n);
  if (!answer) {
    std::fprintf(stderr, "%s\n%s\n", answer.error().message().c_str(), answer.error().advice.c_str());
    return 1;
  }
  std::printf("%u! = %u\n", n, *answer);
  return 0;
}
