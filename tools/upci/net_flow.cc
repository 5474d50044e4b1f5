// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/net_flow.h"

#include <algorithm>
#include <array>

namespace upci::tool {
namespace {

constexpr std::size_t kBurst = 32;
// Frames on their way at once: few enough for the buffer of any datagram socket on the wire.
constexpr std::uint64_t kLargestWindow = 128;

}  // namespace

Flow::Flow(virtio_net::Nic& from, virtio_net::Nic& to, FrameFormat format, std::uint64_t frames)
    : from_(from),
      to_(to),
      format_(format),
      frames_(frames),
      // Never more than the receiver has buffers for: then a lost frame is somebody's fault.
      window_(std::max<std::uint64_t>(1, std::min<std::uint64_t>({kLargestWindow, to.rx_slots(), from.tx_slots()}))),
      seen_(frames) {}

std::size_t Flow::send_some() {
  const std::uint64_t sent = sent_.load(std::memory_order_relaxed);
  const std::uint64_t in_flight = sent - std::min(sent, arrived());
  const std::uint64_t room = window_ - std::min(window_, in_flight);
  std::array<virtio_net::Packet*, kBurst> packets;
  const std::size_t wanted = std::min<std::uint64_t>({kBurst, room, frames_ - sent});
  const std::size_t got = from_.alloc(std::span(packets).first(wanted));
  for (std::size_t i = 0; i < got; ++i) {
    format_.write({packets[i]->data, packets[i]->capacity}, sent + i);
    packets[i]->length = static_cast<std::uint32_t>(format_.size());
  }
  // Before the card has them: the first may be back before tx_burst returns, and what has arrived was sent.
  sent_.store(sent + got, std::memory_order_release);
  const std::size_t taken = from_.tx_burst(std::span<virtio_net::Packet* const>(packets).first(got));
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
  for (virtio_net::Packet* packet : packets) count(packet->bytes());
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
