// SPDX-License-Identifier: Apache-2.0
// The faults that an emulated device can be told to have (fault=NAME). Drivers know nothing of them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

enum class Fault : std::uint8_t {
  kNone,
  // One per verdict.
  kStatusSlow,
  kStatusStuck,
  kGone,
  kNeedsReset,
  kFeaturesRejected,
  kAccessStalled,
  // More ways to the same verdicts.
  kMemoryDecodeOff,
  kGenerationUnstable,
  kVectorRejected,
  kVersionMissing,
  kConfigOnes,
  // Bad config space.
  kCapLoop,
  kCapPointerLow,
  kCapOutOfRange,
  kCapBarInvalid,
  kCapShort,
  kCapMissing,
  kBarSizeZero,
  kNotifyOutOfRange,
  // Bad queues.
  kQueueSizeZero,
  kQueueSizeHuge,
  kQueueSizeOdd,
  kUsedIdOutOfRange,
  kUsedLenOutOfRange,
  kUsedLenShort,
  kUsedIndexJump,
  // Bad frame headers.
  kBufferCountWrong,
  kOffloadWrong,
  kQueueResetStuck,
};

struct FaultInfo {
  Fault fault = Fault::kNone;
  std::string_view name = {};      // the word on the command line
  std::string_view what = {};      // what the device does
  std::string_view expected = {};  // the result of a probe ("stuck", "error", ...); "ok" when only traffic meets it
  bool modern_only = false;        // a device with the legacy interface alone cannot have it
};

/// All faults, in the order of help texts.
std::span<const FaultInfo> all_faults() noexcept;
/// The fault of this name; the empty name is no fault. Errors: kInvalid, naming all faults.
Result<Fault> parse_fault(std::string_view name);
const FaultInfo* find_fault(Fault fault) noexcept;

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
