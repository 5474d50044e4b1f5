// SPDX-License-Identifier: Apache-2.0
// What a wait on a device can end in (docs/architecture.md, "Waiting on a device").
#pragma once

#include <cstdint>
#include <string_view>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT {

enum class Verdict : std::uint8_t {
  kSlow,        // finished, but after half of the deadline
  kStuck,       // the register still reads a wrong value at the deadline
  kGone,        // reads are all ones, and the config space's vendor id too
  kNeedsReset,  // DEVICE_NEEDS_RESET is set outside a reset
  kRejected,    // FEATURES_OK did not stick, or the device offers too little
  kStalled,     // a single access has not returned by the deadline
};

/// The word that reports and the command line use: "slow", "stuck", "gone", "needs_reset", "rejected", "stalled".
constexpr std::string_view to_string(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::kSlow: return "slow";
    case Verdict::kStuck: return "stuck";
    case Verdict::kGone: return "gone";
    case Verdict::kNeedsReset: return "needs_reset";
    case Verdict::kRejected: return "rejected";
    case Verdict::kStalled: return "stalled";
  }
  return "unknown";
}

}  // namespace upci::inline UPCI_VARIANT
