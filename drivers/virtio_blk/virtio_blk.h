// SPDX-License-Identifier: Apache-2.0
// The driver of virtio disks. Section "Block Device".
#pragma once

#include <memory>

#include "virtio/any_ring.h"
#include "virtio/driver.h"

namespace upci::inline UPCI_VARIANT::virtio_blk {

struct Options {
  /// Who watches the rings when the device is opened with BindOptions::observed.
  virtio::ObserverFactory observers = {};
};

/// For virtio_pci::make_driver. What it binds is a Disk (disk.h), with a queue for each CPU as far as the disk has queues.
std::unique_ptr<virtio::Driver> make_driver(Options options = {});

}  // namespace upci::inline UPCI_VARIANT::virtio_blk
