// SPDX-License-Identifier: Apache-2.0
// What an emulated device is asked to be: the parts of its URI, after the command line (or a test) has split it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "emulation/wire.h"

namespace upci::inline UPCI_VARIANT::emulation {

/// "key=value", or a bare word (then value is empty and has_value false).
struct Word {
  std::string key;
  std::string value = {};
  bool has_value = false;
};

struct DeviceSpec {
  std::string uri;          // as the user wrote it; becomes Backend::name()
  std::string model;        // "virtio-net", "virtio-net-pci"
  std::vector<Word> words;  // in order, without the words that upci keeps for itself
  WireSpec wire = {};
  std::string disk = {};   // block models: the file that holds the contents; "" for a scratch disk
  std::string fault = {};  // "" or a fault's name
  int node = 0;            // the NUMA node that the device claims
};

}  // namespace upci::inline UPCI_VARIANT::emulation
