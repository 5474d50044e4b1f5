// SPDX-License-Identifier: Apache-2.0
// How a message-signalled interrupt becomes a signal of an eventfd of the caller's, with nobody in between.
//
// The machine has an ivshmem-doorbell device. It is made for guests that ring each other: a server tells it over a
// socket of the other guests ("peers"), with one eventfd for each of a peer's vectors, and a 32-bit write to its
// doorbell register, the peer in the upper half and the vector in the lower one, makes QEMU signal that eventfd. Here
// this process is the server, a peer is one routing of interrupts, and the write is the device's own MSI or MSI-X
// message. QEMU: docs/specs/ivshmem-spec.txt.
#pragma once

#include <cstdint>
#include <span>

#include "base/deadline.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

/// The server's side. One caller at a time.
class Doorbell {
 public:
  /// Vectors of each peer, as the ivshmem device is told on QEMU's command line.
  static constexpr unsigned kVectors = 256;
  /// The doorbell register in the ivshmem device's BAR 0.
  static constexpr std::uint64_t kRegister = 0x0c;

  /// Errors: kSystem.
  static Result<Doorbell> create();

  /// QEMU's end, to be handed over at launch and closed here afterwards.
  int device_fd() const noexcept { return device_end_.get(); }
  void handed_over() noexcept { device_end_.reset(); }

  /// The number of a peer that no one has had. QEMU 7.2 must not be told of the same peer again after it has left.
  /// Errors: kUnavailable when all have been used.
  Result<std::uint16_t> new_peer();
  /// Tells QEMU of the next vector of a peer: the message `peer << 16 | vector` will signal `eventfd`, soon. QEMU takes
  /// messages in order. Errors: kSystem, kTimeout.
  Result<void> add_vector(std::uint16_t peer, int eventfd, Deadline deadline);
  /// Tells QEMU to forget a peer and to close its eventfds.
  Result<void> remove_peer(std::uint16_t peer, Deadline deadline);

 private:
  Doorbell(UniqueFd server_end, UniqueFd device_end) noexcept
      : server_end_(std::move(server_end)), device_end_(std::move(device_end)) {}
  /// A message is 8 bytes, little-endian, with a descriptor or without (-1).
  Result<void> send(std::int64_t message, int fd, Deadline deadline);

  UniqueFd server_end_;
  UniqueFd device_end_;
  std::uint32_t next_peer_ = 2;  // 0 is for MSI, 1 is the ivshmem device itself
};

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
