// SPDX-License-Identifier: Apache-2.0
// What a watched thread's switch records tell, and the one word that arms them. Shared by both platforms' SwitchWatch.
//
// The kernel drops a record, and wakes nobody, while the ring has no room for it; the room ends at data_tail, which the
// process writes. So the tail arms: it leaves room for kRoom bytes from where the ring's head was, or for none. Only its
// low bits count for the kernel, so one 64-bit store keeps all that there is to know of an armed watch:
//   high half  how often the thread had been switched in by then (the kernel counts that in the mapped page's `lock`,
//              by two, whether or not there is room for a record)
//   low half   where the room ends, plus 1, plus a code in the low three bits: what the thread did then, and whether armed
//
// A preempted thread is switched in next, and that would be recorded, and wake whoever looks, which on the same CPU preempts
// the thread again, and so on without end. So a look that finds it preempted does not leave room: the watch has lapsed
// until somebody looks and finds the thread on a CPU again, or asleep.
//
// A switch record has 8 bytes; the first one after a drop has 24 more, which say how many were dropped. kRoom holds that
// one, which is the usual case: one record, one wake-up for each time of arming. If nothing was dropped before, it holds
// four. Switches in are counted in any case, so "runs again" is known from the count where its record was dropped.
#pragma once

#include <cstdint>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::platform {

enum class SwitchState : std::uint8_t {
  kRunning,    // on a CPU
  kBlocked,    // sleeps: it gave up its CPU by itself, and was not switched in since
  kPreempted,  // could run: it was made to give up its CPU, or yielded it
  kUnknown,    // has run since the last switch that was recorded, and may have been switched out again
};

namespace detail {

inline constexpr std::uint32_t kSwitchRoom = 32;
inline constexpr std::uint32_t kSwitchRecord = 8;
inline constexpr std::uint32_t kLostRecord = 24;

struct SwitchWindow {
  std::uint32_t from = 0;  // the ring's head when it was armed, modulo 2^32
  std::uint32_t ins = 0;   // switches in until then
  bool armed = false;
  SwitchState state = SwitchState::kUnknown;  // at that time

  std::uint64_t pack() const noexcept {
    const std::uint32_t code = static_cast<std::uint32_t>(state) | (armed ? 0U : 4U);
    return (std::uint64_t{ins} << 32U) | (from + (armed ? kSwitchRoom : 0U) + 1U + code);
  }
  static SwitchWindow unpack(std::uint64_t word) noexcept {
    const auto low = static_cast<std::uint32_t>(word) - 1U;
    const std::uint32_t code = low & 7U;
    const bool armed = (code & 4U) == 0;
    return {.from = low - code - (armed ? kSwitchRoom : 0U),
            .ins = static_cast<std::uint32_t>(word >> 32U),
            .armed = armed,
            .state = static_cast<SwitchState>(code & 3U)};
  }

  /// Not armed, and not because the watched thread disarmed, which was running then.
  bool lapsed() const noexcept { return !armed && state == SwitchState::kPreempted; }
};

/// What the records since a window's beginning were.
struct SwitchRecords {
  std::uint32_t used = 0;  // bytes
  std::uint32_t ins = 0;   // switches in that were recorded
  bool any = false;
  bool slept = false;                        // a switch out that the thread wanted was among them
  SwitchState last = SwitchState::kUnknown;  // what the last one tells
};

/// `ins` is the count of switches in now, modulo 2^31.
inline SwitchState judge(const SwitchWindow& window, const SwitchRecords& records, std::uint32_t ins) noexcept {
  const std::uint32_t since = (ins - window.ins) & 0x7fff'ffffU;  // half of a 32-bit count
  if (since != records.ins) return SwitchState::kUnknown;         // switched in since, and that was not recorded
  const SwitchState last = records.any ? records.last : window.state;
  if (last != SwitchState::kRunning) return last;
  // Whether it was switched out since is known only if that would have been recorded.
  return window.armed && records.used + kSwitchRecord <= kSwitchRoom ? last : SwitchState::kUnknown;
}

}  // namespace detail
}  // namespace upci::inline UPCI_VARIANT::platform
