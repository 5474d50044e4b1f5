// SPDX-License-Identifier: Apache-2.0
// Files of scripts and transcripts.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace upci::inline UPCI_VARIANT::oracle {

/// A script or a transcript with its name.
struct Entry {
  std::string name;
  std::vector<std::string> lines;

  std::string text() const;
};

/// Reads a file. One without lines `=== NAME` is a single entry, named after the file.
/// Errors: kSystem.
Result<std::vector<Entry>> read_bundle(const std::string& path);
Result<void> write_bundle(const std::string& path, const std::vector<Entry>& entries);

}  // namespace upci::inline UPCI_VARIANT::oracle
