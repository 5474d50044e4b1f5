// SPDX-License-Identifier: Apache-2.0
// The driver of virtio network cards. Section "Network Device".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "virtio/driver.h"
#include "virtio/packed_access.h"
#include "virtio/ring_access.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

struct Options {
  /// Makes the observer of a ring when the device is opened with BindOptions::observed; a RingLint or a PackedLint when empty.
  std::function<std::unique_ptr<virtio::RingObserver>(std::uint16_t queue, std::uint16_t size)> make_observer = {};
  std::function<std::unique_ptr<virtio::PackedObserver>(std::uint16_t queue, std::uint16_t size)> make_packed_observer =
      {};
};

/// For virtio_pci::make_driver. What it binds is a Nic (nic.h). It makes one queue pair, of up to 256 entries each, and as
/// many interrupt vectors as it can use: three (configuration, receive, transmit), or two (configuration, queues), or none.
std::unique_ptr<virtio::Driver> make_driver(Options options = {});

}  // namespace upci::inline UPCI_VARIANT::virtio_net
