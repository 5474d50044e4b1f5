// SPDX-License-Identifier: Apache-2.0
// Registers as a typed table: offset, width and direction are part of the type, so that a read of a write-only register
// or a store of the wrong width does not compile.
#pragma once

#include <cstdint>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT {

struct RO {
  static constexpr bool readable = true, writable = false;
};
struct WO {
  static constexpr bool readable = false, writable = true;
};
struct RW {
  static constexpr bool readable = true, writable = true;
};

template <class V, std::uint64_t Offset, class Direction>
struct Reg {
  using Value = V;
  static constexpr std::uint64_t offset = Offset;
  static constexpr bool readable = Direction::readable;
  static constexpr bool writable = Direction::writable;
};

template <std::uint64_t Offset, class Direction> using Reg8 = Reg<std::uint8_t, Offset, Direction>;
template <std::uint64_t Offset, class Direction> using Reg16 = Reg<std::uint16_t, Offset, Direction>;
template <std::uint64_t Offset, class Direction> using Reg32 = Reg<std::uint32_t, Offset, Direction>;
template <std::uint64_t Offset, class Direction> using Reg64 = Reg<std::uint64_t, Offset, Direction>;

template <class R> concept ReadableReg = R::readable;
template <class R> concept WritableReg = R::writable;

}  // namespace upci::inline UPCI_VARIANT
