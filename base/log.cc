// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string_view>

namespace upci::inline UPCI_VARIANT::log {
namespace {

constexpr std::array<spdlog::level::level_enum, 5> kLevels = {
    spdlog::level::debug, spdlog::level::info, spdlog::level::warn, spdlog::level::err, spdlog::level::off};
constexpr std::array<std::string_view, 5> kNames = {"debug", "info", "warning", "error", "off"};

spdlog::level::level_enum of_spdlog(Level level) noexcept { return kLevels[static_cast<std::size_t>(level)]; }

spdlog::logger* make_logger() {
  // Not registered with spdlog and never destroyed: threads may log while the process ends, and two variants of the
  // library may live in one program.
  auto* made = new spdlog::logger("upci", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  made->set_pattern("%n: %l: %v");
  made->set_level(spdlog::level::warn);
  made->flush_on(spdlog::level::trace);
  if (const char* wanted = std::getenv("UPCI_LOG"); wanted != nullptr) {
    for (std::size_t i = 0; i < kNames.size(); i++) {
      if (kNames[i] == wanted) made->set_level(kLevels[i]);
    }
  }
  return made;
}

spdlog::logger& logger() {
  static spdlog::logger* const instance = make_logger();
  return *instance;
}

}  // namespace

Level level() noexcept {
  const spdlog::level::level_enum current = logger().level();
  for (std::size_t i = 0; i < kLevels.size(); i++) {
    if (kLevels[i] >= current) return static_cast<Level>(i);
  }
  return Level::kOff;
}

void set_level(Level level) noexcept { logger().set_level(of_spdlog(level)); }

void write(Level level, fmt::string_view format, fmt::format_args args) {
  if (!logger().should_log(of_spdlog(level))) return;
  logger().log(of_spdlog(level), fmt::vformat(format, args));
}

}  // namespace upci::inline UPCI_VARIANT::log
