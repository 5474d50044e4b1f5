// SPDX-License-Identifier: Apache-2.0
// The seam's side of a QEMU device.
#pragma once

#include <memory>
#include <string>

#include "emulation/qemu/fabric.h"
#include "emulation/qemu/interrupts.h"
#include "emulation/qemu/machine.h"
#include "emulation/qemu/polled_line.h"
#include "emulation/qemu/reflector.h"
#include "pci/backend.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

class Backend final : public pci::Backend, private device::DeviceControl {
 public:
  struct Carried {
    bool messages = true;  // false: its line
    bool any = true;       // false: no interrupts at all
  };
  /// `machine` has been launched; `reflector` is its wire's far end or nullptr; `carried` says which interrupts are offered.
  /// Errors: those of Fabric::bring_up.
  static Result<std::shared_ptr<Backend>> create(std::string name, int node, std::unique_ptr<Machine> machine,
                                                 std::unique_ptr<Reflector> reflector, Carried carried);

  const std::string& name() const override { return name_; }
  int node() const override { return node_; }
  std::uint32_t config_read(std::uint16_t offset, unsigned width) override;
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) override;
  pci::BarInfo bar(unsigned bar) override;
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width) override;
  void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) override;
  device::DeviceControl& control() override { return *this; }
  device::DmaSpace& dma() override { return *machine_->ram(); }
  device::IrqSource& irqs() override {
    if (line_ != nullptr) return *line_;
    return *interrupts_;
  }

 private:
  Backend(std::string name, int node, std::unique_ptr<Machine> machine, std::unique_ptr<Reflector> reflector)
      : name_(std::move(name)),
        node_(node),
        reflector_(std::move(reflector)),
        machine_(std::move(machine)),
        fabric_(machine_->qtest()) {}

  // DeviceControl.
  bool present() override;
  Result<void> set_bus_master(bool on) override;
  Result<void> reset(Deadline deadline) override;
  bool proven_quiet() override;
  void abandon() noexcept override;

  // All of these are called with access_ held.
  bool transactions_pending();
  Result<void> await_idle(Deadline deadline);
  void note_write() noexcept;
  void end_if_silent() noexcept;

  const std::string name_;
  const int node_;
  const std::unique_ptr<Reflector> reflector_;  // outlives the machine that it is plugged into
  const std::unique_ptr<Machine> machine_;      // kill() and ended() are thread-safe
  platform::Mutex access_;
  Fabric fabric_;                           // access_, as is the machine's qtest; bar() is const after create()
  std::unique_ptr<Interrupts> interrupts_;  // const after create()
  std::unique_ptr<PolledLine> line_;        // const after create(); where there are no messages
  std::uint16_t express_ = 0;               // const after create(): the PCI Express capability, or 0
  bool function_reset_ = false;             // const after create(): the device has FLR
  bool bus_master_ = true;                  // access_; false only when it is certainly off
  /// access_; the device has been reset and has not been told anything while it was a bus master since: it has no
  /// address that it could write to.
  bool untouched_since_reset_ = false;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
