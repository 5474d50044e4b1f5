// SPDX-License-Identifier: Apache-2.0
// A virtio entropy device, as an application uses it.
//
//   virtio_rng::Rng* rng = device::find<virtio_rng::Rng>(*context.bound(*device));
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "base/deadline.h"
#include "base/error.h"
#include "virtio/driver.h"
#include "virtio/request_device.h"

namespace upci::inline UPCI_VARIANT::virtio_rng {

/// All calls from any thread.
class Rng : public virtio::Bound {
 public:
  /// Puts random bytes of the device at the front of `into`; returns how many, at least one and at most into.size(). The
  /// device decides: ask again for the rest. 0 only for an empty span. Waits by interrupt where the device has one.
  /// Errors: kVerdict stuck (nothing came by the deadline), gone, needs_reset; kDevice when the device says that it wrote
  /// nothing, or more than there was room for; kSystem with ECANCELED when the device was reset meanwhile (it asked for that, broke
  /// the ring, or was frozen): ask again; kState once it is being removed, or frozen until the deadline; kInvalid for a deadline
  /// without end.
  virtual Result<std::size_t> read(std::span<std::byte> into, Deadline deadline) = 0;
  /// Whether read() looks at the ring itself instead of waiting for interrupts. Without interrupts it always does.
  virtual void set_polling(bool on) = 0;
  /// Why the device is of no more use: it has left, does not end its reset, or needs too many of them.
  virtual std::optional<Error> failed() const = 0;
  virtual virtio::RequestStats stats() const = 0;
  virtual virtio::InterruptStats interrupt_stats() const = 0;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_rng
