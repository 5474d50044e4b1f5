// SPDX-License-Identifier: Apache-2.0
// An emulated virtio network card as a PCI function: config space, BARs and interrupts on one side, the card and its
// wire on the other, and between them a thread, since a real device does its work while the driver does something else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/platform.h"
#include "emulation/emu/config_space.h"
#include "emulation/emu/data_path.h"
#include "emulation/emu/dma.h"
#include "emulation/emu/interrupts.h"
#include "emulation/emu/options.h"
#include "emulation/emu/registers.h"
#include "emulation/emu/vhost_user.h"
#include "emulation/emu/violations.h"
#include "emulation/emu/virtio_core.h"
#include "pci/backend.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// Thread-safe, as each backend. Locks, in the order in which they are taken: mutex_, the DMA table's, the interrupts'
/// or the violations'.
class Nic final : public pci::Backend, private device::DeviceControl {
 public:
  /// A card that works on its queues itself, and whose cable is `wire`; or the front of `back_end`.
  static Result<std::shared_ptr<Nic>> create(Options options, UniqueFd wire,
                                             std::unique_ptr<VhostUser> back_end = nullptr);
  /// Releases an access that is stalled, and ends the thread.
  ~Nic() override;
  Nic(const Nic&) = delete;
  Nic& operator=(const Nic&) = delete;

  const std::string& name() const override { return options_.name; }
  int node() const override { return options_.node; }
  std::uint32_t config_read(std::uint16_t offset, unsigned width) override;
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) override;
  pci::BarInfo bar(unsigned bar) override;
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width) override;
  void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) override;
  device::DeviceControl& control() override { return *this; }
  device::DmaSpace& dma() override { return shared_memory_ != nullptr ? *shared_memory_ : dma_; }
  device::IrqSource& irqs() override { return interrupts_; }

  std::vector<std::string> violations() const { return violations_.list(); }
  Stats stats() const;
  void set_link(bool up);
  void request_reset();

 private:
  Nic(Options options, UniqueFd wire, std::unique_ptr<VhostUser> back_end, platform::EventQueue events);

  // device::DeviceControl
  bool present() override;
  Result<void> set_bus_master(bool on) override;
  Result<void> reset(Deadline deadline) override;
  bool proven_quiet() override;
  void abandon() noexcept override;

  // With mutex_ held.
  bool silent() const noexcept;  // all reads are all ones
  std::uint64_t read_register(unsigned bar, std::uint64_t offset, unsigned width);
  void write_register(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value);
  void function_reset();
  void command_changed();
  void wake_if_needed();

  void stall();
  void release_stalled() noexcept;
  void thread_main();
  platform::TimePoint work();

  const Options options_;
  Violations violations_;        // its own lock
  EmulatedDmaSpace dma_;         // its own lock
  Interrupts interrupts_;        // its own lock
  platform::EventQueue events_;  // thread-safe
  mutable platform::Mutex mutex_;
  ConfigSpace config_;                           // mutex_
  VirtioCore core_;                              // mutex_
  ModernRegisters modern_;                       // mutex_
  LegacyRegisters legacy_;                       // mutex_
  const std::unique_ptr<DataPath> data_;         // mutex_
  device::DmaSpace* const shared_memory_;        // or nullptr; its own lock
  bool abandoned_ = false;                       // mutex_
  bool stopping_ = false;                        // mutex_
  bool quiet_ = true;                            // mutex_; nobody works on the queues after bus mastering went off
  bool reset_while_silent_ = false;              // mutex_; a reset was done after bus mastering was last switched off
  platform::Atomic<std::uint32_t> released_{0};  // 1: nothing stalls any more
  platform::Atomic<std::uint32_t> stalled_{0};   // accesses that do not return at the moment
  platform::Thread thread_;                      // the constructor and destructor only
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
