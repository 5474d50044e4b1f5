// SPDX-License-Identifier: Apache-2.0
// What a fuzz target is given, read as a sequence of choices; and how it says that a rule does not hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "base/variant.h"

/// A rule that must hold whatever the device does. Ends the process, as a sanitizer's finding does, so that the fuzzer keeps
/// the input.
#define FUZZ_CHECK(rule, what)                                                   \
  do {                                                                           \
    if (!(rule)) {                                                               \
      std::fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, what, #rule); \
      std::abort();                                                              \
    }                                                                            \
  } while (false)

/// The entry that libFuzzer calls, and the replay of the corpus too.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace upci::inline UPCI_VARIANT::fuzz {

/// After its end everything is 0.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) noexcept : rest_(data, size) {}
  bool empty() const noexcept { return rest_.empty(); }
  std::span<const std::uint8_t> rest() const noexcept { return rest_; }

  std::uint8_t u8() noexcept {
    if (rest_.empty()) return 0;
    const std::uint8_t value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  std::uint16_t u16() noexcept { return static_cast<std::uint16_t>(number(2)); }
  std::uint32_t u32() noexcept { return static_cast<std::uint32_t>(number(4)); }
  /// `bytes` of them, little-endian.
  std::uint64_t number(unsigned bytes) noexcept {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < bytes; ++i) value |= std::uint64_t{u8()} << (8 * i);
    return value;
  }
  /// Below `count`, which is at most 256.
  unsigned below(unsigned count) noexcept { return u8() % count; }

 private:
  std::span<const std::uint8_t> rest_;
};

}  // namespace upci::inline UPCI_VARIANT::fuzz
