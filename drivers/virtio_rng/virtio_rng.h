// SPDX-License-Identifier: Apache-2.0
// The driver of virtio entropy devices. Section "Entropy Device".
#pragma once

#include <memory>

#include "virtio/any_ring.h"
#include "virtio/driver.h"

namespace upci::inline UPCI_VARIANT::virtio_rng {

struct Options {
  /// Who watches the ring when the device is opened with BindOptions::observed.
  virtio::ObserverFactory observers = {};
};

/// For virtio_pci::make_driver. What it binds is an Rng (rng.h).
std::unique_ptr<virtio::Driver> make_driver(Options options = {});

}  // namespace upci::inline UPCI_VARIANT::virtio_rng
