// SPDX-License-Identifier: Apache-2.0
// The URI schemes of this program: which text each takes, and how its devices are opened.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "emulation/wire.h"
#include "pci/device.h"
#include "tools/upci/uri.h"
#include "vfio/vfio.h"

namespace upci::tool {

/// The names of the faults that emu: devices can have, and of those that the platform of any device can have.
std::vector<std::string_view> fault_names();
std::vector<std::string_view> platform_fault_names();
/// The words that can follow an emu: model, as they are written: "mtu=N".
std::vector<std::string_view> emu_words();

/// Model, words and fault of an emu: or qemu: URI, as far as text alone can tell. Errors: kInvalid.
Result<void> check_emulated(const Uri& uri);

/// What the devices of one command share.
struct Environment {
  emulation::Cables cables;  // what connects emulated network cards
  vfio::Vfio vfio;           // IOMMU groups
};

/// Opens the device: starts a QEMU, makes a model, takes a PCI function that is bound to vfio-pci. Thread-safe. Errors:
/// kUnavailable, kInvalid (what QEMU says of a property), kVerdict gone, kSystem.
Result<std::shared_ptr<pci::Device>> open_device(const Uri& uri, Environment& environment);

}  // namespace upci::tool
