// SPDX-License-Identifier: Apache-2.0
// Internal to base/: the layout of a flight record in shared memory.
//
// One writer, any number of readers in any process; the writer may be killed between any two stores. Legend:
//   C  constant once the record is made
//   W  only the writer uses it
//   P  the writer's atomic store publishes it (release); readers load it (acquire)
//   N  written before `name_count` is stored past it, and never again
//   E  guarded by the `version` beside it: odd while being written; a reader that sees an odd one, or another one
//      afterwards, throws away what it read. The fields are atomic, stored with release and loaded with acquire, so that
//      a reader that sees a new field also sees the odd version that was stored before it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/platform.h"
#include "base/stack.h"

namespace upci::inline UPCI_VARIANT {

struct FlightRecord {
  static constexpr std::uint64_t kMagic = 0x6470'7275'6f63'6572;
  static constexpr std::uint32_t kVersion = 1;
  static constexpr std::size_t kNames = 96;       // of registers and steps together
  static constexpr std::size_t kNameLength = 32;  // with the terminating zero
  static constexpr std::size_t kFirstEntries = 256;
  static constexpr std::size_t kLatestEntries = 768;
  static constexpr std::uint64_t kNoEntry = ~std::uint64_t{0};

  struct Name {
    std::array<char, kNameLength> text{};  // N
    std::uint64_t last_entry = kNoEntry;   // W: number of the newest timeline entry of this register
  };
  struct Entry {
    platform::Atomic<std::uint64_t> version{0};  // P: 2 * number + 2; one less while being written
    platform::Atomic<std::uint32_t> name{0};     // E
    platform::Atomic<std::int64_t> t_us{0};      // E
    platform::Atomic<std::uint64_t> value{0};    // E
    platform::Atomic<std::uint64_t> count{0};    // E; also raised alone, once the entry is whole
  };

  std::uint64_t magic = kMagic;                      // C
  std::uint32_t version = kVersion;                  // C
  std::uint32_t size = 0;                            // C: of this struct
  platform::Atomic<std::uint32_t> name_count{1};     // P; name 0 is the empty one
  platform::Atomic<std::uint32_t> step{0};           // P: a name
  platform::Atomic<std::uint32_t> last_register{0};  // P: a name
  platform::Atomic<std::int64_t> start_ns{0};        // P: on the steady clock, which all processes of a machine share
  // P: the access that has begun, or 0; see flight_recorder.cc for its parts. One word, so that it is always whole.
  platform::Atomic<std::uint64_t> pending{0};
  platform::Atomic<std::uint64_t> pending_value{0};  // stored before `pending`; counts while that stays the same
  // Entries are numbered over the life of the record; those from first_entry to next_entry belong to this start().
  platform::Atomic<std::uint64_t> first_entry{0};  // P
  platform::Atomic<std::uint64_t> next_entry{0};   // P
  std::array<Name, kNames> names{};
  std::array<Entry, kFirstEntries + kLatestEntries> entries{};
  platform::Atomic<std::uint64_t> stack_version{0};  // P: odd while the stack is being written
  platform::Atomic<std::uint64_t> stack_depth{0};    // E
  std::array<platform::Atomic<std::uint64_t>, StackTrace::kMaxDepth> stack_pc{};  // E
};

static_assert(std::is_standard_layout_v<FlightRecord>);
static_assert(platform::Atomic<std::uint64_t>::is_always_lock_free, "a lock would not work between processes");

}  // namespace upci::inline UPCI_VARIANT
