// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string>

namespace upci::tool {
namespace {

struct Unit {
  std::string_view name;
  std::int64_t nanoseconds;
};
constexpr Unit kUnits[] = {{"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}};

/// The number, or false when there are other characters than digits or too many of them.
bool read_digits(std::string_view text, std::uint64_t& number) {
  if (text.empty() || !std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; })) return false;
  return std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc{};
}

}  // namespace

Result<platform::Nanoseconds> parse_duration(std::string_view what, std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view unit_name = text.substr(digits);
  const Unit* unit = std::ranges::find(kUnits, unit_name, &Unit::name);
  std::uint64_t number = 0;
  if (digits == 0 || unit == std::end(kUnits)) {
    return fail(Errc::kInvalid, fmt::format("{}: '{}' is no duration", what, text),
                "write a whole number and its unit: 1500us, 300ms or 2s");
  }
  constexpr std::uint64_t kLongest = std::numeric_limits<std::int64_t>::max();
  if (!read_digits(text.substr(0, digits), number) ||
      number > kLongest / static_cast<std::uint64_t>(unit->nanoseconds)) {
    return fail(Errc::kInvalid, fmt::format("{}: '{}' is too long to be counted", what, text),
                "the longest duration is about 292 years");
  }
  if (number == 0) {
    return fail(Errc::kInvalid, fmt::format("{}: '{}' leaves no time at all", what, text),
                "the shortest duration is 1us");
  }
  return platform::Nanoseconds(static_cast<std::int64_t>(number) * unit->nanoseconds);
}

Result<std::uint64_t> parse_count(std::string_view what, std::string_view text, std::uint64_t min, std::uint64_t max) {
  std::uint64_t number = 0;
  if (!read_digits(text, number) || number < min || number > max) {
    return fail(Errc::kInvalid, fmt::format("{}: '{}' is no whole number from {} to {}", what, text, min, max));
  }
  return number;
}

}  // namespace upci::tool
