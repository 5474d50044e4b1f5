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

namespace upci::tool {

/// The names of the faults that emu: devices can have.
std::vector<std::string_view> fault_names();
/// The words that can follow an emu: model, as they are written: "mtu=N".
std::vector<std::string_view> emu_words();

/// Model, words and fault of an emu: or qemu: URI, as far as text alone can tell. Errors: kInvalid.
Result<void> check_emulated(const Uri& uri);

/// Opens the device: starts a QEMU, makes a model. `cables` connects the devices of one command. A PCI function of this
/// machine is looked up and never touched. Thread-safe. Errors: kUnavailable, kInvalid (what QEMU says of a property),
/// kVerdict gone, kSystem.
Result<std::shared_ptr<pci::Device>> open_device(const Uri& uri, emulation::Cables& cables);

}  // namespace upci::tool
