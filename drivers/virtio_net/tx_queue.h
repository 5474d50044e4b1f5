// SPDX-License-Identifier: Apache-2.0
// The transmit side: puts packets into the ring, gives those that were sent back to the pool.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "drivers/virtio_net/capture.h"
#include "drivers/virtio_net/counter.h"
#include "drivers/virtio_net/framing.h"
#include "drivers/virtio_net/packet_pool.h"
#include "drivers/virtio_net/transmit_check.h"
#include "virtio/ring.h"
#include "virtio/spec/net.h"
#include "virtio/transport.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// One thread at a time; counters from any.
template <class Ring>
class TxQueue {
 public:
  TxQueue(Ring ring, const virtio::Device& device, PacketPool& pool, std::uint16_t mtu)
      : ring_(std::move(ring)), framing_(device), check_(device, framing_, ring_.size(), mtu), pool_(pool) {}

  void set_notifier(std::unique_ptr<virtio::Notifier> notifier) noexcept { notifier_ = std::move(notifier); }
  std::uint16_t slots() const noexcept { return static_cast<std::uint16_t>(ring_.size() / framing_.descriptors()); }
  /// Room for any frame: a long one may need more descriptors than one in a single buffer.
  bool has_room() const noexcept { return ring_.room() >= std::min(wanted_, ring_.size()); }

  /// `tap`, where there is one, sees each frame before the device does, as one of queue pair `pair`.
  std::size_t send(std::span<Packet* const> packets, const CaptureTap* tap, std::uint16_t pair) {
    // As late and as few as possible: what was sent longest ago lies in cache lines that the device has left behind. A look at
    // what it does now would take them from its CPU, and back.
    const std::size_t wanted = packets.size() * framing_.descriptors();
    if (ring_.room() < wanted) reclaim(wanted - ring_.room());
    // The pool has a packet for each descriptor of the ring, and no more: frames in several packets must not keep all the others.
    if (extra_ > ring_.size() / 2U) [[unlikely]]
      reclaim();
    std::size_t taken = 0;
    std::uint64_t frames = 0;
    std::uint64_t bytes = 0;
    wanted_ = framing_.descriptors();
    for (Packet* packet : packets) {
      const std::size_t length = check_.frame_bytes(*packet);  // once added, the packet may be the device's
      if (length == 0) [[unlikely]] {
        invalid_.add();
        pool_.free(std::span<Packet* const>(&packet, 1));
        ++taken;
        continue;
      }
      const std::uint16_t position = ring_.add_position();
      // A frame in several buffers needs more room than was made.
      if (!add(*packet) && (packet->next == nullptr || reclaim(kBurst) == 0 || !add(*packet))) break;
      if (tap != nullptr) [[unlikely]]
        tap->sent(*packet, {.pair = pair, .position = position, .in_flight = ring_.in_flight(), .size = ring_.size()});
      ++frames;
      bytes += length;
      ++taken;
    }
    if (frames != 0) {
      // Counted before the device can see them: whoever receives a frame finds it counted.
      frames_.add(frames);
      bytes_.add(bytes);
      if (ring_.publish()) notifier_->notify(ring_.next_position());
      prefetch_reclaimed();
    }
    if (taken < packets.size()) full_.add();
    return taken;
  }

  /// Gives what the device has sent back to the pool.
  void reclaim() {
    while (reclaim(kBurst) != 0) {}
  }

  bool enable_interrupts() { return ring_.enable_interrupts(); }
  void disable_interrupts() { ring_.disable_interrupts(); }
  const virtio::RingCounters& ring_counters() const noexcept { return ring_.counters(); }
  bool broken() const noexcept { return ring_.broken(); }
  std::optional<Error> error() const { return ring_.error(); }
  /// Gives all packets back to the pool. Only once the device is quiet.
  void detach() {
    extra_ = 0;
    ring_.detach_all([this](void* cookie) {
      auto* packet = static_cast<Packet*>(cookie);
      pool_.free(std::span<Packet* const>(&packet, 1));
    });
  }

  /// After a reset: takes back what the device had sent and said so; the rest is lost.
  void take_back() {
    if (!ring_.broken()) reclaim();
    lost_.add(ring_.in_flight());
    detach();
  }
  /// Then, in zeroed memory: begins anew.
  void restart() {
    ring_.restart();
    ring_.disable_interrupts();
  }

  std::uint64_t frames() const noexcept { return frames_.get(); }
  std::uint64_t bytes() const noexcept { return bytes_.get(); }
  std::uint64_t completed() const noexcept { return completed_.get(); }
  std::uint64_t invalid() const noexcept { return invalid_.get(); }
  std::uint64_t lost() const noexcept { return lost_.get(); }
  std::uint64_t full() const noexcept { return full_.get(); }

 private:
  static constexpr std::size_t kBurst = 64;

  /// Of these up to `limit`, oldest first; returns how many.
  std::size_t reclaim(std::size_t limit) {
    std::array<Packet*, kBurst> sent;
    std::size_t count = 0;
    ring_.poll(std::min(limit, kBurst), [&](void* cookie, std::uint32_t) {
      auto* packet = static_cast<Packet*>(cookie);
      reclaimed_[count] = packet->data;
      sent[count++] = packet;
    });
    if (count == 0) return 0;
    completed_.add(count);
    if (extra_ != 0) [[unlikely]] {
      for (const Packet* packet : std::span(sent).first(count)) extra_ -= extra_packets(*packet);
    }
    reclaimed_count_ = count;
    pool_.free(std::span(sent).first(count));
    return count;
  }

  /// The pool gives out next what came back last: by then its lines should be here, where a frame is written into them. After
  /// publish(), whose barrier would wait for stores that wait behind them.
  void prefetch_reclaimed() noexcept {
    for (const std::byte* data : std::span(reclaimed_).first(reclaimed_count_)) platform::prefetch_for_write(data);
    reclaimed_count_ = 0;
  }

  /// Beyond the first one of a frame.
  static std::size_t extra_packets(const Packet& frame) noexcept {
    std::size_t count = 0;
    for (const Packet* part = frame.next; part != nullptr; part = part->next) ++count;
    return count;
  }

  bool add(Packet& packet) {
    if (packet.next != nullptr) [[unlikely]]
      return add_parts(packet);
    if (framing_.one_segment()) [[likely]]
      return ring_.add_one(framing_.transmit_segment(packet), &packet);
    Framing::Chain storage;
    return ring_.add(framing_.transmit(packet, storage), &packet);
  }

  bool add_parts(Packet& packet) {
    Framing::LongChain storage;
    const std::span<const virtio::Segment> chain = framing_.transmit_parts(packet, storage);
    if (ring_.add(chain, &packet)) {
      extra_ += extra_packets(packet);
      return true;
    }
    wanted_ = static_cast<std::uint16_t>(chain.size());
    return false;
  }

  Ring ring_;
  const Framing framing_;
  const TransmitCheck check_;
  PacketPool& pool_;
  std::unique_ptr<virtio::Notifier> notifier_;
  std::uint16_t wanted_ = 1;                          // descriptors of the frame that the last send() had no room for
  std::array<const std::byte*, kBurst> reclaimed_{};  // the bytes of packets that came back last
  std::size_t reclaimed_count_ = 0;
  std::size_t extra_ = 0;  // packets in the ring beyond one for each frame
  Counter frames_, bytes_, completed_, invalid_, lost_, full_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
