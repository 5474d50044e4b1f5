// SPDX-License-Identifier: Apache-2.0
// One direction of `upci net test`: what was sent into it and what came out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/platform.h"
#include "base/wait.h"
#include "drivers/virtio_net/nic.h"
#include "tools/upci/net_frame.h"

namespace upci::tool {

// How its fields are protected:
//   const     written by the constructor only
//   sender    the sending thread's own
//   receiver  the receiving side's own: the bottom half, which never runs twice at once, or the polling thread
//   atomic    written by one side, read by the other
class Flow {
 public:
  Flow(virtio_net::Nic& from, virtio_net::Nic& to, FrameFormat format, std::uint64_t frames);

  virtio_net::Nic& from() noexcept { return from_; }
  virtio_net::Nic& to() noexcept { return to_; }

  // --- the sending side ---
  /// Sends what the window has room for, a burst at most. Returns how many frames the card has taken.
  std::size_t send_some();
  bool all_sent() const noexcept { return sent() == frames_; }
  /// False while frames may be on their way.
  bool all_arrived() const noexcept { return arrived() >= sent(); }
  bool window_full() const noexcept { return sent() - std::min(sent(), arrived()) >= window_; }
  /// Sleeps until something has arrived since arrivals() gave `seen`, or until the time given.
  void wait_for_arrival(std::uint32_t seen, platform::TimePoint until) noexcept;
  std::uint32_t arrivals() const noexcept { return arrivals_.load(std::memory_order_acquire); }

  /// The queue pair that the next frames go to: each burst takes the next one. Of the sender.
  unsigned tx_pair() const noexcept { return tx_pair_; }

  // --- the receiving side ---
  /// Checks the frames and gives them back to the card's pool. Any thread: each queue pair has a receiver of its own.
  void take(std::span<virtio_net::Packet* const> packets);

  // --- any side ---
  std::uint64_t sent() const noexcept { return sent_.load(std::memory_order_acquire); }
  std::uint64_t received() const noexcept { return received_.load(std::memory_order_acquire); }
  std::uint64_t corrupt() const noexcept { return corrupt_.load(std::memory_order_acquire); }
  std::uint64_t duplicated() const noexcept { return duplicated_.load(std::memory_order_acquire); }
  std::uint64_t reordered() const noexcept { return reordered_.load(std::memory_order_acquire); }
  /// Sent, and neither received nor arrived damaged.
  std::uint64_t lost() const noexcept { return sent() - std::min(sent(), arrived()); }

 private:
  std::uint64_t arrived() const noexcept { return received() + corrupt(); }
  void count(std::span<const std::byte> frame);

  virtio_net::Nic& from_;                        // const
  virtio_net::Nic& to_;                          // const
  const FrameFormat format_;                     // const
  const std::uint64_t frames_;                   // const
  const std::uint64_t window_;                   // const
  unsigned tx_pair_ = 0;                         // sender
  Mutex take_mutex_;                             // who holds it is the receiver
  std::vector<bool> seen_;                       // receiver
  std::uint64_t next_ = 0;                       // receiver: one above the highest number seen
  platform::Atomic<std::uint64_t> sent_{0};      // atomic, sender writes
  platform::Atomic<std::uint64_t> received_{0};  // atomic, receiver writes; the same for the next three
  platform::Atomic<std::uint64_t> corrupt_{0};
  platform::Atomic<std::uint64_t> duplicated_{0};
  platform::Atomic<std::uint64_t> reordered_{0};
  platform::Atomic<std::uint32_t> arrivals_{0};  // atomic, receiver writes: batches; what the sender sleeps on
  platform::Atomic<bool> sender_waits_{false};   // atomic, sender writes
};

}  // namespace upci::tool
