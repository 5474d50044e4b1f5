// SPDX-License-Identifier: Apache-2.0
// Interrupts: a vector is an eventfd and an event source of the engine on one CPU.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/event_fd.h"
#include "device/control.h"
#include "device/device.h"
#include "workqueue/event_source.h"

namespace upci::inline UPCI_VARIANT::device {

/// One requested interrupt. Lives in its IrqVectors.
class Irq {
 public:
  /// The top half. Runs on the interrupt's CPU, must not block; usually acknowledges the device and calls queue().
  using Handler = void (*)(void* context, Irq& irq);

  /// Queues the bottom half on the interrupt's CPU. Any context.
  bool queue(Work& work) noexcept;
  unsigned vector() const noexcept { return vector_; }
  int cpu() const noexcept { return cpu_; }
  /// Signals taken from the eventfd so far (several may have been merged into one call of the top half).
  std::uint64_t signals() const noexcept { return signals_.load(std::memory_order_relaxed); }
  /// Calls of the top half so far.
  std::uint64_t interrupts() const noexcept { return interrupts_.load(std::memory_order_relaxed); }
  /// True for INTx: the top half asks the device whether it was the one, which also ends the interrupt; afterwards the
  /// framework unmasks the line.
  bool line() const noexcept { return line_; }
  /// True when the vector's affinity follows cpu(); false when the backend has no say.
  bool affinity_set() const noexcept { return affinity_set_.load(std::memory_order_relaxed); }

 private:
  friend class IrqVectors;
  Irq(Device& device, unsigned vector, int cpu, EventFd eventfd);
  static void on_event(void* self);

  Device& device_;  // kept alive by the IrqVectors
  const bool line_;
  const unsigned vector_;
  int cpu_;                                        // written before the vector is enabled
  EventFd eventfd_;                                // const after construction
  Handler handler_ = nullptr;                      // written before the vector is enabled
  void* context_ = nullptr;                        // the same
  platform::Atomic<bool> affinity_set_{false};     // atomic
  EventSource source_;                             // its own rules
  platform::Atomic<std::uint64_t> signals_{0};     // atomic
  platform::Atomic<std::uint64_t> interrupts_{0};  // atomic
};

/// All vectors of one device. Kernel: pci_alloc_irq_vectors, request_irq.
class IrqVectors {
 public:
  /// Makes `count` vectors on the CPUs given (round robin over `cpus`; the probing CPU when empty). Nothing is delivered
  /// before enable(). Errors: kUnavailable (the device offers fewer), kSystem.
  static Result<std::unique_ptr<IrqVectors>> create(Device& device, unsigned count, std::vector<int> cpus = {});
  /// Shuts down.
  ~IrqVectors();

  unsigned count() const noexcept { return static_cast<unsigned>(irqs_.size()); }
  Irq& operator[](unsigned vector) noexcept { return *irqs_[vector]; }

  /// Sets the top half of one vector: a method `void T::handler(Irq&)`. Before enable() only.
  template <auto Method, class T>
  void set_handler(unsigned vector, T* object) noexcept {
    irqs_[vector]->context_ = object;
    irqs_[vector]->handler_ = [](void* context, Irq& irq) { (static_cast<T*>(context)->*Method)(irq); };
  }
  /// Why some vector is not raised on its CPU, or empty. Const after enable().
  const std::string& affinity_note() const noexcept { return affinity_note_; }
  /// Registers the event sources and routes the vectors to them.
  Result<void> enable();
  /// Masks the vectors at the device and waits for running top halves: none runs afterwards. Idempotent.
  void shutdown() noexcept;

 private:
  explicit IrqVectors(std::shared_ptr<Device> device) noexcept : device_(std::move(device)) {}
  void ask_for_affinity() noexcept;
  std::shared_ptr<Device> device_;
  std::vector<std::unique_ptr<Irq>> irqs_;  // const after create()
  bool enabled_ = false;                    // the control path only
  std::string affinity_note_;               // the same
};

}  // namespace upci::inline UPCI_VARIANT::device
