// SPDX-License-Identifier: Apache-2.0
// The receive side: keeps the ring full of empty packets, takes the filled ones out.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "drivers/virtio_net/counter.h"
#include "drivers/virtio_net/framing.h"
#include "drivers/virtio_net/packet_pool.h"
#include "virtio/ring.h"
#include "virtio/spec/net.h"
#include "virtio/transport.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// One thread at a time; counters and starved() from any.
template <class Ring>
class RxQueue {
 public:
  static constexpr std::uint16_t kMostSlots = 1024;  // a legacy device may insist on a ring of 32768

  RxQueue(Ring ring, Framing framing, PacketPool& pool)
      : ring_(std::move(ring)),
        framing_(framing),
        pool_(pool),
        slots_(std::min<std::uint16_t>(kMostSlots, static_cast<std::uint16_t>(ring_.size() / framing.descriptors()))),
        refill_at_(std::clamp<std::uint16_t>(static_cast<std::uint16_t>(slots_ / 8), 1, kBurst)) {}

  void set_notifier(std::unique_ptr<virtio::Notifier> notifier) noexcept { notifier_ = std::move(notifier); }
  std::uint16_t slots() const noexcept { return slots_; }

  /// Fills the ring from the pool. Not before DRIVER_OK.
  void refill() {
    bool added = false;
    while (ring_.in_flight() < slots_ && !ring_.broken()) {
      std::array<Packet*, kBurst> packets;
      const std::size_t want = std::min<std::size_t>(kBurst, static_cast<std::size_t>(slots_ - ring_.in_flight()));
      std::size_t got = pool_.alloc(std::span(packets).first(want));
      if (got < want) [[unlikely]] {
        // Said before the second look: a packet that is freed after it finds starved() set. The pool's lock orders the two.
        starved_.store(true, std::memory_order_relaxed);
        got += pool_.alloc(std::span(packets).subspan(got, want - got));
        if (got < want) no_buffer_.add();
      }
      for (std::size_t i = 0; i < got; ++i) {
        Framing::Chain storage;
        ring_.add(framing_.receive(*packets[i], storage), packets[i]);
      }
      added = added || got != 0;
      if (got < want) break;
    }
    if (added && ring_.publish()) notifier_->notify();
  }

  /// Takes up to packets.size() frames; tops the ring up once enough of it is empty.
  std::size_t receive(std::span<Packet*> packets) {
    std::array<Packet*, kBurst> dropped;
    std::size_t drops = 0;
    std::size_t frames = 0;
    std::uint64_t bytes = 0;
    const std::uint32_t header = framing_.header_bytes();
    ring_.poll(std::min(packets.size(), kBurst), [&](void* cookie, std::uint32_t length) {
      auto* packet = static_cast<Packet*>(cookie);
      // The ring has checked that it fits; too short for a frame it can be all the same.
      if (length < header + virtio::spec::net::kEthernetHeaderBytes) [[unlikely]] {
        dropped[drops++] = packet;
        return;
      }
      packet->length = length - header;
      bytes += packet->length;
      packets[frames++] = packet;
    });
    if (drops != 0) {
      short_.add(drops);
      pool_.free(std::span(dropped).first(drops));
    }
    if (frames != 0) {
      frames_.add(frames);
      bytes_.add(bytes);
    }
    if (slots_ - ring_.in_flight() >= refill_at_) refill();
    return frames;
  }

  bool has_used() { return ring_.has_used(); }
  bool enable_interrupts() { return ring_.enable_interrupts(); }
  void disable_interrupts() { ring_.disable_interrupts(); }
  const virtio::RingCounters& ring_counters() const noexcept { return ring_.counters(); }
  bool broken() const noexcept { return ring_.broken(); }
  std::optional<Error> error() const { return ring_.error(); }
  /// The pool was empty when the ring was to be filled: whoever frees a packet next should have it filled.
  bool starved() const noexcept { return starved_.load(std::memory_order_relaxed); }
  void clear_starved() noexcept { starved_.store(false, std::memory_order_relaxed); }
  /// Gives all packets back to the pool. Only once the device is quiet.
  void detach() {
    ring_.detach_all([this](void* cookie) {
      auto* packet = static_cast<Packet*>(cookie);
      pool_.free(std::span<Packet* const>(&packet, 1));
    });
  }

  std::uint64_t frames() const noexcept { return frames_.get(); }
  std::uint64_t bytes() const noexcept { return bytes_.get(); }
  std::uint64_t short_frames() const noexcept { return short_.get(); }
  std::uint64_t no_buffer() const noexcept { return no_buffer_.get(); }

 private:
  static constexpr std::size_t kBurst = 64;

  Ring ring_;
  const Framing framing_;
  PacketPool& pool_;
  std::unique_ptr<virtio::Notifier> notifier_;
  const std::uint16_t slots_;
  const std::uint16_t refill_at_;  // empty slots at which it pays to fill them
  platform::Atomic<bool> starved_{false};
  Counter frames_, bytes_, short_, no_buffer_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
