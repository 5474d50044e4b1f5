// SPDX-License-Identifier: Apache-2.0
// The front end's side of the vhost-user protocol, version 1 ("Vhost-user Protocol" of QEMU's documentation, which names the
// messages): a connection to a process that works on a device's rings, in memory that both map.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "emulation/guest_ram.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// One thread at a time. Each request waits for its answer, at most kPatience; after an error the connection is of no use any more.
class VhostUser {
 public:
  static constexpr std::chrono::seconds kPatience{10};
  static constexpr std::uint16_t kMaxRings = 256;

  struct Ring {
    bool packed = false;
    std::uint16_t size = 0;
    std::uint64_t descriptors = 0;  // offsets in memory()
    std::uint64_t driver = 0;
    std::uint64_t device = 0;
  };
  /// Where a ring stands that nothing was done with.
  static constexpr std::uint32_t fresh(bool packed) noexcept { return packed ? 0x8000'8000U : 0U; }

  /// Connects to a back end that listens at `path`, and asks what it can. Errors: kUnavailable (nobody listens, or what answers is
  /// no vhost-user back end with protocol features), kTimeout, kSystem.
  static Result<std::unique_ptr<VhostUser>> connect(const std::string& path, std::uint16_t rings);

  /// The feature bits of virtio that the back end understands.
  std::uint64_t features() const noexcept { return features_; }
  const std::shared_ptr<GuestRam>& memory() const noexcept { return memory_; }

  /// Tells what was negotiated, and shows the memory. Errors: kDevice (refused, or the connection is lost), kTimeout.
  Result<void> start(std::uint64_t features);
  /// The back end works on the ring from here on, beginning at `position`. Errors: as start().
  Result<void> start_ring(std::uint16_t index, const Ring& ring, std::uint32_t position);
  /// It does so no longer when this returns. The position to go on from. Errors: as start(); after kDevice nobody is there who could.
  Result<std::uint32_t> stop_ring(std::uint16_t index);

  /// Available buffers: wakes the back end.
  void kick(std::uint16_t index) noexcept;
  /// Readable when the back end has used buffers, and wants the driver to know.
  int call_fd(std::uint16_t index) const noexcept { return calls_[index].get(); }
  bool take_call(std::uint16_t index) noexcept;
  /// Readable when it has gone.
  int fd() const noexcept { return socket_.get(); }
  bool lost() const noexcept;

 private:
  struct Message;
  VhostUser(UniqueFd socket, std::shared_ptr<GuestRam> memory)
      : socket_(std::move(socket)), memory_(std::move(memory)) {}
  Result<void> introduce(std::uint16_t rings);
  Result<void> send(const Message& message, std::span<const int> fds = {});
  Result<std::uint64_t> ask(Message message);
  /// A request that is answered with whether it was done.
  Result<void> demand(Message message, std::span<const int> fds = {});
  Result<Message> receive(std::uint32_t request);

  const UniqueFd socket_;
  const std::shared_ptr<GuestRam> memory_;
  std::uint64_t features_ = 0;
  std::vector<UniqueFd> kicks_;  // eventfds, one for each ring
  std::vector<UniqueFd> calls_;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
