// SPDX-License-Identifier: Apache-2.0
// The file of --report: whole or not at all.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace upci::tool {

/// Opened before anything else is done, so that a path that cannot be written is known in time. The text goes to a
/// temporary file beside the target, which commit() puts in its place; without commit() nothing is left.
/// A target that is no regular file (a pipe, a terminal) is written straight.
class ReportFile {
 public:
  /// Errors: kUnavailable, with what is in the way.
  static Result<ReportFile> open(const std::string& path);
  ReportFile(ReportFile&& other) noexcept;
  ReportFile& operator=(ReportFile&&) = delete;
  ~ReportFile();

  /// Writes the text and puts the file in its place. Once. Errors: kSystem.
  Result<void> commit(std::string_view text);

 private:
  ReportFile(std::string path, std::string temporary, UniqueFd fd) noexcept;
  std::string path_;
  std::string temporary_;  // "" when the target is written straight, or after commit()
  UniqueFd fd_;
};

}  // namespace upci::tool
