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
  /// How many queue pairs to set up where the card has several (MQ); 0: one for each CPU.
  std::uint16_t queue_pairs = 0;
};

/// For virtio_pci::make_driver. What it binds is a Nic (nic.h). Its queues have up to 256 entries each, with more than 32 pairs fewer
/// (docs/virtio-net.md); of interrupt vectors it takes what it can use (vector_plan.h), or none.
std::unique_ptr<virtio::Driver> make_driver(Options options = {});

}  // namespace upci::inline UPCI_VARIANT::virtio_net
