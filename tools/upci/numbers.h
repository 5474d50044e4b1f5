// SPDX-License-Identifier: Apache-2.0
// Numbers and durations as people write them on the command line.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/platform.h"

namespace upci::tool {

/// A duration above 0: digits and a unit, "1500us", "300ms" or "2s". `what` names the option in the message.
/// Errors: kInvalid.
Result<platform::Nanoseconds> parse_duration(std::string_view what, std::string_view text);

/// A whole number in decimal digits, from `min` to `max`. Errors: kInvalid.
Result<std::uint64_t> parse_count(std::string_view what, std::string_view text, std::uint64_t min, std::uint64_t max);

}  // namespace upci::tool
