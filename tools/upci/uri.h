// SPDX-License-Identifier: Apache-2.0
// Device URIs: scheme:model[,word|key=value]...
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "device/device.h"
#include "emulation/device_spec.h"
#include "pci/address.h"

namespace upci::tool {

enum class Scheme : std::uint8_t {
  kVfio,  // a PCI function of this machine, by its address
  kQemu,  // a model of QEMU's, in a QEMU of its own
  kEmu,   // a model in this process
};

/// A URI whose text has been checked as far as text alone can tell.
struct Uri {
  std::string text;  // as the user wrote it
  Scheme scheme = Scheme::kEmu;
  pci::Address address = {};        // kVfio
  emulation::DeviceSpec spec = {};  // kQemu, kEmu
  std::string platform_fault = {};  // "" or what emulation/interposer is asked for
  bool wire_given = false;          // wire= was written, and is not only the default
  device::BindOptions options = {};
};

/// Opens nothing. Errors: kInvalid, with what is wrong and what could be written instead.
Result<Uri> parse_uri(std::string_view text);

/// All of them, or the first error.
Result<std::vector<Uri>> parse_uris(const std::vector<std::string>& texts);

}  // namespace upci::tool
