// SPDX-License-Identifier: Apache-2.0
// Logging, through spdlog, to stderr only: stdout belongs to the command's result. spdlog's own headers stay out of sight:
// they are the most expensive ones of the project to compile.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <utility>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::log {

enum class Level : std::uint8_t { kDebug, kInfo, kWarning, kError, kOff };

/// What is below the level is not written. Warning at first, or what the environment's UPCI_LOG names (debug, info,
/// warning, error, off). Thread-safe, as all of this is.
Level level() noexcept;
void set_level(Level level) noexcept;

/// Writes one line. The functions below are its usual callers.
void write(Level level, fmt::string_view format, fmt::format_args args);

template <class... Args> void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kDebug, format, fmt::make_format_args(args...));
}
template <class... Args> void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kInfo, format, fmt::make_format_args(args...));
}
template <class... Args> void warn(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kWarning, format, fmt::make_format_args(args...));
}
template <class... Args> void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kError, format, fmt::make_format_args(args...));
}

}  // namespace upci::inline UPCI_VARIANT::log
