// SPDX-License-Identifier: Apache-2.0
// The seam between virtio drivers and what carries virtio: PCI modern, PCI legacy, later vhost-user.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/deadline.h"
#include "base/error.h"
#include "device/device.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// Where the parts of a split (or, later, packed) ring lie, as the device is told. IOVAs.
struct QueueAddresses {
  std::uint64_t descriptors = 0;
  std::uint64_t driver = 0;  // available ring
  std::uint64_t device = 0;  // used ring
};

/// Tells the device that a queue has new available buffers.
class Notifier {
 public:
  virtual ~Notifier() = default;
  /// `position`: the ring's next_position(), for devices that want to know it (NOTIFICATION_DATA).
  virtual void notify(std::uint16_t position) noexcept = 0;
};

/// One virtio device. The control path is driven by one thread at a time. Accesses to a device that is gone read all ones.
class Transport {
 public:
  static constexpr std::uint16_t kNoVector = 0xffff;
  virtual ~Transport() = default;

  virtual device::Device& device() noexcept = 0;
  virtual std::uint32_t device_id() const noexcept = 0;  // 1 = network card (section "Device Types")
  /// True for the legacy interface: no FEATURES_OK, guest-endian, 32 feature bits, queue sizes fixed by the device.
  virtual bool legacy() const noexcept = 0;

  virtual std::uint8_t status() = 0;
  virtual void set_status(std::uint8_t status) = 0;
  virtual std::uint64_t device_features() = 0;
  virtual void set_driver_features(std::uint64_t features) = 0;

  /// Device-specific configuration; widths as the fields have them. Errors: kDevice when offset or length lie outside.
  /// The modern one is read under the generation counter, bounded by the deadline (stuck, step "config").
  virtual Result<void> read_config(std::uint32_t offset, std::span<std::byte> into, Deadline deadline) = 0;

  virtual std::uint16_t queue_count() = 0;  // queues that the device has; legacy: as far as probed
  virtual std::uint16_t queue_max_size(std::uint16_t queue) = 0;  // 0 when the queue does not exist
  /// Checks and sets size, addresses and vector, and enables the queue. Errors: kVerdict rejected when the device does not
  /// take the vector; kDevice for a size it cannot have; kInvalid for a legacy address out of reach.
  virtual Result<std::unique_ptr<Notifier>> setup_queue(std::uint16_t queue, std::uint16_t size,
                                                        const QueueAddresses& addresses, std::uint16_t vector) = 0;
  /// Stops a queue that was set up, and waits until the device has: it touches the ring and its buffers no more, and
  /// setup_queue() may follow. Section "Virtqueue Reset". Errors: kUnavailable without RING_RESET; stuck, needs_reset, gone
  /// (step "queue_reset").
  virtual Result<void> reset_queue(std::uint16_t queue, Deadline deadline) = 0;
  /// The vector for configuration changes. Errors: kVerdict rejected.
  virtual Result<void> set_config_vector(std::uint16_t vector) = 0;
  /// Reads (and by that clears) the ISR status; for devices without MSI-X.
  virtual std::uint8_t isr() = 0;
};

}  // namespace upci::inline UPCI_VARIANT::virtio
