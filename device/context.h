// SPDX-License-Identifier: Apache-2.0
// A Context owns an engine, drivers and devices. Two of them can live in one process.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "device/device.h"
#include "device/report.h"
#include "workqueue/engine.h"

namespace upci::inline UPCI_VARIANT::device {

/// Members are thread-safe; the destructor is not.
class Context {
 public:
  struct Options {
    Engine::Options engine;
    platform::Nanoseconds remove_timeout = std::chrono::seconds(2);  // per device, when the context removes it
    /// Called when a bound device is withdrawn (unplugged, unbound by its lender, broken), in a worker, after the driver was
    /// told. The application stops using the driver's instance and calls remove(), soon: the lender waits. Without it the
    /// context removes the device itself, and nobody may use the instance from other threads.
    std::function<void(const std::shared_ptr<Device>&)> withdrawn = {};
  };
  static Result<std::unique_ptr<Context>> create(Options options);
  /// Removes every bound device, abandons what still probes, then ends the engine.
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Engine& engine() noexcept;
  /// Drivers match in the order in which they were added.
  void add_driver(std::unique_ptr<Driver> driver);
  /// From now on the device belongs to this context's engine. Errors: kState (it has one already).
  Result<void> add_device(std::shared_ptr<Device> device);

  /// Binds each device, all at once: probe runs by work_on_cpu on the device's node, each bounded by `timeout` from the
  /// start of its own run. Returns one report per device, in their order, when the last one has its result. Kernel: pci_call_probe.
  std::vector<Report> probe(std::span<const std::shared_ptr<Device>> devices, platform::Nanoseconds timeout);
  Report probe(const std::shared_ptr<Device>& device, platform::Nanoseconds timeout);

  /// The driver's instance, or nullptr when the device is not bound. Valid until the device is removed.
  Bound* bound(const Device& device) noexcept;
  /// quiesce, interrupts masked and synchronised, works disabled, device reset, destructor. Errors: the first of these that
  /// failed; the device is unbound all the same, and its memory quarantined when it could not be proven quiet. A device that
  /// was withdrawn is given back to its lender.
  Result<void> remove(const std::shared_ptr<Device>& device, Deadline deadline);

  /// Puts a bound device to sleep: its driver stops asking it for anything and resets it, interrupts are shut down, works
  /// disabled, bus mastering is taken away. The instance stays where it is and can be asked; what it then does the driver's
  /// header says. Not from a callback of the driver. Kernel: virtio_device_freeze. Errors: kState (not bound, frozen already),
  /// kUnavailable (the driver cannot), the driver's, and then the device goes on; kTimeout when driver or device hang
  /// far beyond the deadline: the device is then given up, and, where even that does not help, unbound.
  Result<void> freeze(const std::shared_ptr<Device>& device, Deadline deadline);
  /// Wakes it up: handshake, queues, settings, traffic. Kernel: virtio_device_restore. Errors: kState (not frozen); the
  /// driver's, and then it is still frozen: restore() may be called again, or remove(); kTimeout as above.
  Result<void> restore(const std::shared_ptr<Device>& device, Deadline deadline);

  struct Impl;  // device/context_impl.h; not installed

 private:
  explicit Context(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace upci::inline UPCI_VARIANT::device
