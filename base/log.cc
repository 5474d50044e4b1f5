// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace upci::inline UPCI_VARIANT::log {
namespace {

spdlog::logger* make_logger() {
  // Not registered with spdlog and never destroyed: threads may log while the process ends, and two variants of the
  // library may live in one program.
  auto* made = new spdlog::logger("upci", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  made->set_pattern("%n: %l: %v");
  spdlog::level::level_enum level = spdlog::level::warn;
  if (const char* wanted = std::getenv("UPCI_LOG"); wanted != nullptr && *wanted != '\0') {
    // from_str() answers "off" for a word that it does not know.
    const std::string word(wanted);
    const spdlog::level::level_enum parsed = spdlog::level::from_str(word);
    if (parsed != spdlog::level::off || word == "off") level = parsed;
  }
  made->set_level(level);
  made->flush_on(spdlog::level::trace);
  return made;
}

}  // namespace

spdlog::logger& logger() {
  static spdlog::logger* const instance = make_logger();
  return *instance;
}

}  // namespace upci::inline UPCI_VARIANT::log
