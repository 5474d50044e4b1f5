// SPDX-License-Identifier: Apache-2.0
// What a virtio driver looks like: a device id, a feature table and a probe that is given a negotiated device.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/deadline.h"
#include "base/error.h"
#include "device/device.h"
#include "virtio/transport.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// A feature that means something only together with another one. Each device type has a section "Feature bit requirements".
struct FeatureDependency {
  unsigned feature = 0;      // bit
  std::uint64_t any_of = 0;  // mask: one of these must be accepted, too
};

/// The features that a driver can use. What it requires it must also list in `wanted`.
struct FeatureTable {
  std::uint64_t wanted = 0;
  std::uint64_t required = 0;
  std::uint64_t on_request = 0;  // it can use them, but only a user who insists (features=+NAME) gets them
  std::span<const FeatureDependency> dependencies = {};  // static
};

/// A device between FEATURES_OK and DRIVER_OK: what a driver's probe is given.
class Device {
 public:
  Device(std::shared_ptr<Transport> transport, std::uint64_t features) noexcept
      : transport_(std::move(transport)), features_(features) {}
  Transport& transport() const noexcept { return *transport_; }
  std::shared_ptr<Transport> shared_transport() const noexcept { return transport_; }
  device::Device& device() const noexcept { return transport_->device(); }
  std::uint64_t features() const noexcept { return features_; }
  bool has(unsigned feature_bit) const noexcept { return ((features_ >> feature_bit) & 1U) != 0; }

 private:
  std::shared_ptr<Transport> transport_;
  std::uint64_t features_;
};

class Bound : public device::Bound {
 public:
  /// DRIVER_OK is set: interrupts may be enabled, buffers made available. Runs in the probing worker.
  virtual Result<void> start(Deadline deadline) = 0;
};

class Driver {
 public:
  virtual ~Driver() = default;
  virtual std::string_view name() const = 0;
  virtual std::uint32_t device_id() const = 0;
  virtual FeatureTable features(bool legacy) const = 0;
  /// Makes the queues. The core then sets DRIVER_OK and calls start().
  virtual Result<std::unique_ptr<Bound>> probe(Device& device, Deadline deadline) = 0;
};

/// The whole handshake of section "Device Initialization": reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK (not legacy),
/// the driver's probe, DRIVER_OK, start; FAILED on failure. Each wait ends in a verdict with its step.
Result<std::unique_ptr<Bound>> initialize(std::shared_ptr<Transport> transport, Driver& driver, Deadline deadline);

/// The handshake once more, for a device that was live and asks to be reset, or was frozen, with the features that it had.
/// Kernel: virtio_device_restore. `silent` is called after the reset, when the device reaches no memory any more; `set_up` is to make the queues known again. Errors: as
/// initialize(); rejected when the device offers less than before. The control path's thread.
Result<void> restart(Transport& transport, std::uint64_t features, const std::function<void()>& silent,
                     const std::function<Result<void>()>& set_up, Deadline deadline);

/// Writes 0 to device_status and waits until it reads back 0 ("The driver MUST wait for a read of device_status to return 0
/// before reinitializing the device", section "Common configuration structure layout"). Legacy: the same.
Result<void> reset(Transport& transport, Deadline deadline);

}  // namespace upci::inline UPCI_VARIANT::virtio
