// SPDX-License-Identifier: Apache-2.0
// Logging, through spdlog, to stderr only: stdout belongs to the command's result.
#pragma once

#include <spdlog/spdlog.h>

#include <utility>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::log {

/// The library's logger ("upci", stderr, level warning until changed). Thread-safe.
spdlog::logger& logger();

template <class... Args> void debug(spdlog::format_string_t<Args...> format, Args&&... args) {
  logger().debug(format, std::forward<Args>(args)...);
}
template <class... Args> void info(spdlog::format_string_t<Args...> format, Args&&... args) {
  logger().info(format, std::forward<Args>(args)...);
}
template <class... Args> void warn(spdlog::format_string_t<Args...> format, Args&&... args) {
  logger().warn(format, std::forward<Args>(args)...);
}
template <class... Args> void error(spdlog::format_string_t<Args...> format, Args&&... args) {
  logger().error(format, std::forward<Args>(args)...);
}

}  // namespace upci::inline UPCI_VARIANT::log
