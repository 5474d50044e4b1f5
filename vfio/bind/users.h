// SPDX-License-Identifier: Apache-2.0
// Internal to vfio/bind/: what the machine needs its devices for, and who has VFIO's devices open.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pci/address.h"
#include "vfio/bind/function.h"
#include "vfio/bind/sysfs.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

/// Something that must not lose its device.
struct Use {
  std::string device;  // the device's path below /sys/devices, which names each PCI function above it
  std::string what;    // "the file system mounted at /", "the default route (interface eth0)"
};

/// File systems mounted in any mount namespace that can be seen, active swap, and default routes of this network namespace,
/// with the devices below them: partitions, device mapper, md, btrfs, NVMe multipath; 9p and virtiofs; bonds, bridges, VLANs.
/// Errors: kSystem and kUnavailable when something that has to be known cannot be read.
Result<std::vector<Use>> uses_of_devices(Sysfs& sysfs);

/// The first of them that the function, or something behind it, carries; null when it carries none.
const Use* use_of(const std::vector<Use>& uses, const pci::Address& address);

/// "process 4711 (upci) has /dev/vfio/12 open"; nullopt when nobody is seen to. A process that kept the device but closed
/// its group is not seen (the kernel does not name the device of such a descriptor).
Result<std::optional<std::string>> opener_of(Sysfs& sysfs, const Function& function);

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
