// SPDX-License-Identifier: Apache-2.0
// What a network card does for its driver to a frame before it goes on a wire: checksums (CSUM), and cutting a long UDP payload
// into datagrams (HOST_USO). Section "Network Device / Device Operation / Packet Transmission".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/variant.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// A frame inside the card.
struct Frame {
  std::vector<std::byte> bytes;
  virtio::spec::net::Header header{};  // what is left to be done to it; all 0: nothing

  bool finished() const noexcept { return header.flags == 0 && header.gso_type == virtio::spec::net::kGsoNone; }
  /// Whether it carries IPv6, if it carries IP at all.
  bool ipv6() const noexcept;
};

/// Why what the header asks for cannot be done to these bytes; empty where it can. Only NEEDS_CSUM and UDP_L4 are understood.
std::string_view misfit(const Frame& frame) noexcept;

/// The frames that a wire carries for one without a misfit.
std::vector<Frame> finish(const Frame& frame);

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
