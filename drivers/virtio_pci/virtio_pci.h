// SPDX-License-Identifier: Apache-2.0
// The PCI driver of all virtio devices. Section "Virtio Over PCI Bus".
#pragma once

#include <memory>
#include <vector>

#include "device/device.h"
#include "virtio/driver.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {

/// A driver for Context::add_driver, named "virtio_pci". It matches vendor 0x1af4, devices 0x1000..0x107f, of a type that one
/// of `drivers` is for; makes a transport of the interface that BindOptions ask for (modern where there is a choice), and
/// hands it to that driver. What it binds is the outer Bound; the virtio driver's is its child (device::find sees both).
///
/// Errors of its probe: kUnavailable when the device lacks the interface asked for; kDevice for capabilities, sizes or
/// offsets that no device may have; the verdicts of virtio::initialize.
std::unique_ptr<device::Driver> make_driver(std::vector<std::unique_ptr<virtio::Driver>> drivers);

}  // namespace upci::inline UPCI_VARIANT::virtio_pci
