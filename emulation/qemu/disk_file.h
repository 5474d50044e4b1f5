// SPDX-License-Identifier: Apache-2.0
// The file behind a block model: the user's, or a scratch one.
#pragma once

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

struct DiskFile {
  UniqueFd fd;
  bool read_only = false;
};

/// The file `path`, which must be a regular one: a block device of this machine is not a scratch disk. Read-only when no write
/// permission bit of it is set. "" for an empty file of 64 MiB in memory. Errors: kUnavailable (not there, not permitted),
/// kInvalid (no regular file, or its size is no multiple of 512), kSystem.
Result<DiskFile> open_disk(const std::string& path);

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
