// SPDX-License-Identifier: Apache-2.0
// Device, Driver and Bound: the driver core's view of what it binds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "device/control.h"
#include "device/dma.h"
#include "device/state.h"
#include "workqueue/engine.h"

namespace upci::inline UPCI_VARIANT::device {

class Context;
class Irq;
class IrqVectors;

/// What the user asked for beside the device itself (the words that the command line keeps for itself).
struct BindOptions {
  enum class Interface : std::uint8_t { kAuto, kModern, kLegacy };
  Interface interface = Interface::kAuto;     // driver=legacy|modern
  std::vector<std::string> require_features;  // features=+NAME
  std::vector<std::string> decline_features;  // features=-NAME
  bool observed = false;                      // rings with the observed access policy instead of the plain one
};

/// A DMA allocation tied to its device: while the device is quarantined, destroying it keeps the memory in the process-wide
/// quarantine instead of freeing it. Move-only.
class DmaBuffer {
 public:
  DmaBuffer() = default;
  DmaBuffer(std::shared_ptr<DeviceState> state, std::unique_ptr<DmaMemory> memory) noexcept
      : state_(std::move(state)), memory_(std::move(memory)) {}
  DmaBuffer(DmaBuffer&&) noexcept = default;
  DmaBuffer& operator=(DmaBuffer&& other) noexcept;
  ~DmaBuffer();

  std::byte* va() const noexcept { return memory_ ? memory_->va() : nullptr; }
  std::uint64_t iova() const noexcept { return memory_ ? memory_->iova() : 0; }
  std::size_t size() const noexcept { return memory_ ? memory_->size() : 0; }
  explicit operator bool() const noexcept { return memory_ != nullptr; }

 private:
  void release() noexcept;
  std::shared_ptr<DeviceState> state_;
  std::unique_ptr<DmaMemory> memory_;
};

/// Something on a bus that a driver can bind: a PCI function today. Held by shared_ptr: the context, a running probe and
/// the bound driver each keep it alive.
class Device : public std::enable_shared_from_this<Device> {
 public:
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// The URI or address that the user gave; const after construction.
  const std::string& name() const noexcept { return name_; }
  /// The NUMA node, or -1 when unknown.
  virtual int node() const = 0;
  virtual DeviceControl& control() = 0;
  virtual DmaSpace& dma() = 0;
  virtual IrqSource& irqs() = 0;

  const BindOptions& options() const noexcept { return options_; }
  const std::shared_ptr<DeviceState>& state() const noexcept { return state_; }
  /// The engine of the context that the device was added to; valid from Context::add_device on.
  Engine& engine() const noexcept { return *engine_; }

  /// DMA memory of the device's node. Errors: as DmaSpace::alloc; kVerdict gone once the device was abandoned.
  Result<DmaBuffer> dma_alloc(DmaRequest request);
  /// Feature names that the driver negotiated, for the report; set by the probe.
  void set_features(std::vector<std::string> names);
  std::vector<std::string> features() const;

  /// Gives the device up: accesses return all ones from now on, the device is silenced as far as it can be.
  virtual void abandon() noexcept;
  /// The driver core calls it: with true once a probe has succeeded, with false before the driver's instance is dismantled.
  virtual void probe_finished(bool bound) noexcept;
  /// Shuts down every IrqVectors of this device. The driver core calls it; control path only.
  void shutdown_irqs() noexcept;

 protected:
  Device(std::string name, BindOptions options, std::shared_ptr<DeviceState> state)
      : name_(std::move(name)), options_(std::move(options)), state_(std::move(state)) {}

 private:
  friend class Context;
  friend class IrqVectors;  // registers itself, so that the driver core can shut it down
  const std::string name_;
  const BindOptions options_;
  const std::shared_ptr<DeviceState> state_;
  Engine* engine_ = nullptr;  // written once by Context::add_device
  mutable platform::Mutex mutex_;
  std::vector<std::string> features_;  // mutex_
  std::vector<IrqVectors*> irqs_;      // mutex_
};

/// A driver's instance on one device: what probe returns. Destroying it is the second half of the kernel's remove.
class Bound {
 public:
  Bound() = default;
  virtual ~Bound() = default;
  Bound(const Bound&) = delete;
  Bound& operator=(const Bound&) = delete;

  /// First half of remove: stop asking the device for anything. The framework then masks and synchronises the interrupts,
  /// disables the works, resets the device, and runs the destructor.
  virtual Result<void> quiesce(Deadline deadline) = 0;
  /// The first half of a suspend: nothing is asked of the device any more and no callback of the driver's runs when it returns;
  /// the device has been reset; what it had comes back to its owners with a result. What the application asks for meanwhile
  /// waits or is refused, as the driver says. The framework then shuts the vectors down, disables the works and takes bus
  /// mastering away. Kernel: virtio_driver.freeze, dev_pm_ops.freeze. Errors: kUnavailable (the driver cannot do it), or why
  /// not; then the device goes on as before, or the driver says that it has failed.
  virtual Result<void> freeze(Deadline deadline);
  /// The second half: works are enabled again; the driver enables its vectors (IrqVectors::enable) and brings the device to
  /// where it was, settings and all. On an error it stays frozen, and this may be called again. Kernel: virtio_driver.restore.
  virtual Result<void> restore(Deadline deadline);
  /// Whoever lent the device wants it back, or the platform met an error of it: `error` says which. Whoever waits for the
  /// device should be told; removal follows. Called once at most, on a worker; must not block.
  virtual void withdrawn(const Error& error) { static_cast<void>(error); }
  /// The instance bound on top of this one (virtio_net on virtio_pci), or nullptr.
  virtual Bound* child() noexcept { return nullptr; }

  /// Called by Work's constructor: the work is disabled before the destructor runs. Not thread-safe: constructors only.
  void adopt_work(Work& work) { works_.push_back(&work); }
  const std::vector<Work*>& works() const noexcept { return works_; }
  /// The same, by DelayedWork's constructor: its timer is disarmed, too.
  void adopt_delayed_work(DelayedWork& work) {
    std::erase(works_, &work.work());  // adopted as a Work a moment ago
    delayed_works_.push_back(&work);
  }
  const std::vector<DelayedWork*>& delayed_works() const noexcept { return delayed_works_; }

 private:
  std::vector<Work*> works_;                 // filled while the object is constructed, const afterwards
  std::vector<DelayedWork*> delayed_works_;  // the same
};

/// Finds an interface in a stack of bound drivers, from the outermost inwards: find<virtio_net::Nic>(*bound).
template <class T>
T* find(Bound& bound) noexcept {
  for (Bound* b = &bound; b != nullptr; b = b->child()) {
    if (T* found = dynamic_cast<T*>(b)) return found;
  }
  return nullptr;
}

class Driver {
 public:
  virtual ~Driver() = default;
  virtual std::string_view name() const = 0;
  virtual bool match(const Device& device) const = 0;
  /// Runs in a worker on a CPU of the device's node. Must not wait past the deadline; on error everything that it took is
  /// given back by its destructors.
  virtual Result<std::unique_ptr<Bound>> probe(Device& device, Deadline deadline) = 0;
};

}  // namespace upci::inline UPCI_VARIANT::device
