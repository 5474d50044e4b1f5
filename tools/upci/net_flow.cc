// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/net_flow.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "drivers/virtio_net/frame.h"

namespace upci::tool {
namespace {

constexpr std::size_t kBurst = 32;
// Frames on their way at once: few enough for the buffer of any datagram socket on the wire.
constexpr std::uint64_t kLargestWindow = 128;

std::size_t packets_of(const virtio_net::Nic& nic, std::size_t frame) {
  return (frame + nic.packet_bytes() - 1) / nic.packet_bytes();
}

}  // namespace

Flow::Flow(virtio_net::Nic& from, virtio_net::Nic& to, FrameFormat format, std::uint64_t frames)
    : from_(from),
      to_(to),
      format_(format),
      frames_(frames),
      // Never more than the receiver has buffers for: then a lost frame is somebody's fault.
      window_(std::max<std::uint64_t>(
          1, std::min<std::uint64_t>({kLargestWindow, to.rx_slots() / packets_of(to, format_.longest()),
                                      from.tx_slots() / packets_of(from, format_.longest())}))),
      seen_(frames) {}

std::size_t Flow::send_some() {
  const std::uint64_t sent = sent_.load(std::memory_order_relaxed);
  const std::uint64_t in_flight = sent - std::min(sent, arrived());
  const std::uint64_t room = window_ - std::min(window_, in_flight);
  std::array<virtio_net::Packet*, kBurst> packets;
  const std::size_t wanted = std::min<std::uint64_t>({kBurst, room, frames_ - sent});
  const std::size_t allocated = from_.alloc(std::span(packets).first(wanted));
  std::size_t got = 0;
  for (; got < allocated; ++got) {
    std::array<std::byte, kLargestFrame> bytes;
    const std::span frame = std::span(bytes).first(format_.size_of(sent + got));
    format_.write(frame, sent + got);
    if (!virtio_net::write_frame(from_, *packets[got], frame)) break;  // the pool is empty: later
  }
  from_.free(std::span<virtio_net::Packet* const>(packets).subspan(got, allocated - got));
  // Before the card has them: the first may be back before tx_burst returns, and what has arrived was sent.
  sent_.store(sent + got, std::memory_order_release);
  const std::size_t taken = from_.tx_burst(std::span<virtio_net::Packet* const>(packets).first(got), tx_pair_);
  if (taken != 0) tx_pair_ = (tx_pair_ + 1) % from_.queue_pairs();
  if (taken < got) {
    sent_.store(sent + taken, std::memory_order_release);
    from_.free(std::span<virtio_net::Packet* const>(packets).subspan(taken, got - taken));
  }
  return taken;
}

void Flow::wait_for_arrival(std::uint32_t seen, platform::TimePoint until) noexcept {
  // Pairs with take(): either it sees that the sender waits, or the sender sees the new count (both sequentially consistent).
  sender_waits_.store(true, std::memory_order_seq_cst);
  while (arrivals_.load(std::memory_order_seq_cst) == seen && platform::wait_word(arrivals_, seen, until)) {}
  sender_waits_.store(false, std::memory_order_relaxed);
}

void Flow::take(std::span<virtio_net::Packet* const> packets) {
  std::unique_lock lock(take_mutex_);
  for (virtio_net::Packet* packet : packets) {
    if (packet->next == nullptr) {
      count(packet->bytes());
      continue;
    }
    std::array<std::byte, kLargestFrame + 1> bytes;  // one more: a frame that is too long is not taken for a whole one
    count(std::span(bytes).first(virtio_net::read_frame(*packet, bytes)));
  }
  lock.unlock();
  to_.free(packets);
  arrivals_.fetch_add(1, std::memory_order_seq_cst);
  if (sender_waits_.load(std::memory_order_seq_cst)) platform::wake_word(&arrivals_, 1);
}

void Flow::count(std::span<const std::byte> frame) {
  const auto add = [](platform::Atomic<std::uint64_t>& counter) {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  };
  const std::optional<std::uint64_t> sequence = format_.read(frame);
  if (!sequence || *sequence >= sent()) {  // what was never sent cannot come back
    add(corrupt_);
    return;
  }
  if (seen_[*sequence]) {
    add(duplicated_);
    return;
  }
  seen_[*sequence] = true;
  if (*sequence < next_) add(reordered_);
  next_ = std::max(next_, *sequence + 1);
  add(received_);
}

}  // namespace upci::tool
