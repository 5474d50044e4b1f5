// SPDX-License-Identifier: Apache-2.0
// Frames that may take several packets, as bytes in a row.
#pragma once

#include <cstddef>
#include <span>

#include "drivers/virtio_net/nic.h"
#include "drivers/virtio_net/packet.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// Copies a frame into `head`, which must be single, and into as many further packets of the card's pool as it takes. False
/// when the pool has too few: `head` is single and empty then, and still the caller's. Thread-safe as alloc() is.
bool write_frame(Nic& nic, Packet& head, std::span<const std::byte> frame);

/// Copies what of the frame fits into `into`; returns how much. All of it is Packet::frame_bytes().
std::size_t read_frame(const Packet& head, std::span<std::byte> into) noexcept;

}  // namespace upci::inline UPCI_VARIANT::virtio_net
