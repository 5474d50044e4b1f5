// SPDX-License-Identifier: Apache-2.0
// Internal to vfio/bind/: the lines of /proc/PID/mountinfo (proc(5)).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

struct Mount {
  std::string number;  // "8:1"
  std::string point;   // where it is mounted
  std::string type;    // "ext4"
  std::string source;  // "/dev/sda1", or a tag
};

/// Lines that are none are left out.
std::vector<Mount> parse_mountinfo(std::string_view text);

/// A name with \040 and the like for white space and backslashes, as proc writes it.
std::string unescaped(std::string_view name);

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
