// SPDX-License-Identifier: Apache-2.0
// doc: head
// QEMU's `edu` device: it computes factorials, has 4 KiB of memory that it fills and empties by DMA, and says by an
// interrupt when it is done. docs/writing-a-driver.md builds this driver step by step, out of these very lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/reg.h"
#include "base/wait.h"
#include "device/irq.h"
#include "pci/device.h"

namespace upci::inline UPCI_VARIANT::edu {
// doc: end

// doc: registers
/// BAR 0, as QEMU's docs/specs/edu describes it.
struct Regs {
  using Id = Reg32<0x00, RO>;         // 0xRRrr00ed: the version, and what it is
  using Liveness = Reg32<0x04, RW>;   // reads back inverted
  using Factorial = Reg32<0x08, RW>;  // n in, n! out
  using Status = Reg32<0x20, RW>;     // kRaiseWhenDone
  using IrqStatus = Reg32<0x24, RO>;  // what has happened: kFactorialDone, kDmaDone
  using IrqAck = Reg32<0x64, WO>;     // the same bits, to end them
  using DmaSource = Reg64<0x80, RW>;
  using DmaTarget = Reg64<0x88, RW>;
  using DmaCount = Reg64<0x90, RW>;
  using DmaCommand = Reg64<0x98, RW>;  // kStart, kToMemory, kRaise
};
inline constexpr std::uint32_t kRaiseWhenDone = 0x80;                     // Status
inline constexpr std::uint32_t kFactorialDone = 0x001, kDmaDone = 0x100;  // IrqStatus
inline constexpr std::uint64_t kStart = 1, kToMemory = 2, kRaise = 4;     // DmaCommand
// doc: end

// doc: buffer
inline constexpr std::uint64_t kBufferAt = 0x40000;                      // the device's own address of its memory
inline constexpr std::size_t kBufferSize = 4096 - 1;                     // QEMU before 8.0 aborts at the last byte
inline constexpr std::uint64_t kDmaMask = (std::uint64_t{1} << 28) - 1;  // the highest address that it can form
// doc: end

// doc: class
class Edu final : public pci::Bound {
 public:
  static constexpr pci::DeviceId kIds[] = {{.vendor = 0x1234, .device = 0x11e8}};
  /// Runs in a worker on a CPU of the device's node.
  static Result<std::unique_ptr<pci::Bound>> probe(pci::Device& device, Deadline deadline);
  /// The first half of remove. Interrupts, works and the device's reset are the framework's business after it.
  Result<void> quiesce(Deadline deadline) override;

  /// Any thread; one request at a time, the others wait. Errors of all three: kInvalid (the device was not asked), kVerdict
  /// stuck (not done by the deadline), kState (after such a verdict: remove the device and probe it again).
  Result<std::uint32_t> factorial(std::uint32_t n, Deadline deadline);
  /// Into the device's memory, and out of it: [at, at + size) of its kBufferSize bytes.
  Result<void> store(std::span<const std::byte> from, std::size_t at, Deadline deadline);
  Result<void> load(std::span<std::byte> to, std::size_t at, Deadline deadline);
  /// The CPU of the engine's topology on which the last bottom half ran, or -1.
  int bottom_half_cpu() const noexcept { return cpu_.load(); }

 private:
  explicit Edu(pci::Device& device) noexcept : device_(device) {}
  void top_half(device::Irq& irq);
  void bottom_half(Work&);
  Result<void> begin();
  Result<void> finish(std::string_view what, std::uint32_t event, Deadline deadline);
  Result<void> transfer(std::uint64_t from, std::uint64_t to, std::size_t size, std::uint64_t command,
                        Deadline deadline);

  pci::Device& device_;
  pci::Bar regs_;                             // const after the probe
  std::unique_ptr<device::IrqVectors> irqs_;  // the same
  Mutex in_use_;
  device::DmaBuffer memory_;                  // in_use_
  bool late_ = false;                         // in_use_: a request missed its deadline; nobody knows what it still does
  platform::Atomic<std::uint32_t> acked_{0};  // from the top half to the bottom half: bits of IrqStatus
  platform::Atomic<std::uint32_t> events_{0};  // from the bottom half to who waits, who sleeps on it
  platform::Atomic<int> cpu_{-1};              // atomic
  Work done_{this, &Edu::bottom_half};
};

}  // namespace upci::inline UPCI_VARIANT::edu
// doc: end
