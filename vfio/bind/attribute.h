// SPDX-License-Identifier: Apache-2.0
// Internal to vfio/bind/: reading or writing an attribute of sysfs without being held up by the kernel.
#pragma once

#include <string>

#include "base/deadline.h"
#include "base/error.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

/// Opens `path` and writes `text` in one write(2), or reads up to 4096 bytes when `text` is null, in a child process. The child
/// keeps `lock_fd` open (-1: none) and nothing else, so that it holds no terminal, pipe or lock of somebody else's.
/// Any thread. Errors: kSystem with the errno of the open, read or write; kTimeout at the deadline.
Result<std::string> access_attribute(const std::string& path, const std::string* text, int lock_fd, Deadline deadline);

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
