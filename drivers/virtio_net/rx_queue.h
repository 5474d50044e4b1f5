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
#include <string>
#include <utility>
#include <vector>

#include "drivers/virtio_net/capture.h"
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

  /// `any_starved` is set together with starved(), for those who look after many queues.
  /// `long_frames`: some may take several buffers.
  RxQueue(Ring ring, const virtio::Device& device, PacketPool& pool, std::uint16_t pair, bool long_frames,
          platform::Atomic<bool>& any_starved)
      : ring_(std::move(ring)),
        framing_(device),
        pool_(pool),
        any_starved_(any_starved),
        pair_(pair),
        slots_(std::min<std::uint16_t>(kMostSlots, static_cast<std::uint16_t>(ring_.size() / framing_.descriptors()))),
        refill_at_(std::clamp<std::uint16_t>(static_cast<std::uint16_t>(slots_ / 8), 1, kBurst)) {
    if (long_frames && framing_.merges()) ring_.expect_partial_waits();
  }

  void set_notifier(std::unique_ptr<virtio::Notifier> notifier) noexcept { notifier_ = std::move(notifier); }
  std::uint16_t slots() const noexcept { return slots_; }

  /// Fills the ring from the pool. Not before DRIVER_OK.
  void refill() {
    bool added = false;
    while (ring_.in_flight() < slots_ && !ring_.broken()) {
      std::array<Packet*, kBurst> packets;
      const std::size_t want = std::min<std::size_t>(kBurst, static_cast<std::size_t>(slots_ - ring_.in_flight()));
      std::size_t got = pool_.alloc(std::span(packets).first(want), PacketUse::kReceive);
      if (got < want) [[unlikely]] {
        // Said before the second look: a packet that is freed after it finds starved() set. The pool's lock orders the two.
        starved_.store(true, std::memory_order_relaxed);
        any_starved_.store(true, std::memory_order_relaxed);
        got += pool_.alloc(std::span(packets).subspan(got, want - got), PacketUse::kReceive);
        if (got < want) no_buffer_.add();
      }
      for (Packet* packet : std::span(packets).first(got)) add(*packet);
      added = added || got != 0;
      if (got < want) break;
    }
    if (added && ring_.publish()) notifier_->notify(ring_.next_position());
  }

  /// Takes up to packets.size() frames; tops the ring up once enough of it is empty. `tap`, where there is one, sees them first.
  std::size_t receive(std::span<Packet*> packets, const CaptureTap* tap) {
    if (!kept_.empty()) [[unlikely]]
      return take_kept(packets);
    const std::size_t count = collect(packets, tap);
    if (empty_slots() >= refill_at_) refill();
    return count;
  }
  /// The same for who calls again soon: slots are filled at the next call only, if not too many are empty. By then the frames that
  /// lay there have mostly been freed, their packets go where they were, and the descriptors need not be written.
  std::size_t receive_again_soon(std::span<Packet*> packets, const CaptureTap* tap) {
    if (!kept_.empty()) [[unlikely]]
      return take_kept(packets);
    if (empty_slots() >= refill_at_) refill();
    const std::size_t count = collect(packets, tap);
    if (empty_slots() > slots_ / 2) refill();
    return count;
  }

  bool has_used() { return ring_.has_used(); }
  bool enable_interrupts() { return ring_.enable_interrupts(); }
  void disable_interrupts() { ring_.disable_interrupts(); }
  const virtio::RingCounters& ring_counters() const noexcept { return ring_.counters(); }
  bool broken() const noexcept { return ring_.broken() || bad_header_; }
  std::optional<Error> error() const {
    if (!bad_header_) return ring_.error();
    return Error{.code = Errc::kDevice,
                 .what = "the network card says that a received frame takes " + std::to_string(bad_buffers_) +
                         " buffers, of " + std::to_string(slots_),
                 .advice = "what it wrote cannot be told apart into frames: remove the device and probe it again",
                 .step = "ring",
                 .reg = "num_buffers"};
  }
  /// The pool was empty when the ring was to be filled: whoever frees a packet next should have it filled.
  bool starved() const noexcept { return starved_.load(std::memory_order_relaxed); }
  void clear_starved() noexcept { starved_.store(false, std::memory_order_relaxed); }
  /// Gives all packets back to the pool. Only once the device is quiet.
  void detach() {
    const auto free = [this](Packet* packet) { pool_.free(std::span<Packet* const>(&packet, 1)); };
    if (Packet* head = std::exchange(merging_.head, nullptr); head != nullptr) free(head);
    merging_ = {};
    ring_.detach_all([&free](void* cookie) { free(static_cast<Packet*>(cookie)); });
  }

  /// After a reset: keeps the frames that the device had already handed over, for the next receive(). What is left was empty.
  void take_back() {
    std::array<Packet*, kBurst> frames;
    while (!broken() && ring_.has_used()) {
      const std::size_t count = collect(frames, nullptr);
      kept_.insert(kept_.end(), frames.begin(), frames.begin() + static_cast<std::ptrdiff_t>(count));
    }
    // What the device has said of these cannot be believed any more.
    if (broken()) lost_.add(ring_.in_flight());
    detach();
  }
  /// Before the queue goes.
  void free_kept() {
    pool_.free(kept_);
    kept_.clear();
  }
  /// Then, in zeroed memory: begins anew.
  void restart() {
    bad_header_ = false;
    ring_.restart();
    ring_.disable_interrupts();
  }

  std::uint64_t frames() const noexcept { return frames_.get(); }
  std::uint64_t bytes() const noexcept { return bytes_.get(); }
  std::uint64_t merged() const noexcept { return merged_.get(); }
  std::uint64_t short_frames() const noexcept { return short_.get(); }
  std::uint64_t bad_offloads() const noexcept { return bad_offload_.get(); }
  std::uint64_t no_buffer() const noexcept { return no_buffer_.get(); }
  std::uint64_t lost() const noexcept { return lost_.get(); }

 private:
  static constexpr std::size_t kBurst = 64;

  struct Used {
    Packet* packet;
    std::uint32_t length;
  };
  struct Burst {
    std::span<Packet*> frames;
    const CaptureTap* tap = nullptr;
    std::size_t count = 0;
    std::uint64_t bytes = 0;
    std::array<Packet*, kBurst> dropped;
    std::size_t drops = 0;
  };
  /// A frame whose buffers have not all been seen yet; without a head, one that is dropped.
  struct Merging {
    Packet* head = nullptr;
    Packet* tail = nullptr;
    std::uint16_t missing = 0;
    std::uint64_t bytes = 0;
  };

  void add(Packet& packet) {
    if (framing_.one_segment()) [[likely]] {
      ring_.add_one(framing_.receive_segment(packet), &packet);
      return;
    }
    Framing::Chain storage;
    ring_.add(framing_.receive(packet, storage), &packet);
  }

  std::uint16_t empty_slots() const noexcept { return static_cast<std::uint16_t>(slots_ - ring_.in_flight()); }

  /// Takes up to packets.size() frames out of the ring.
  std::size_t collect(std::span<Packet*> packets, const CaptureTap* tap) {
    // First all are taken out and their bytes asked for, which the device's CPU wrote: the lines come together, and not each when
    // it is looked at.
    std::array<Used, kBurst> used;
    std::size_t taken = 0;
    ring_.poll(std::min(packets.size(), kBurst), [&](void* cookie, std::uint32_t length) {
      auto* packet = static_cast<Packet*>(cookie);
      platform::prefetch(packet->data);
      if (framing_.reads_header()) platform::prefetch(packet->data - framing_.header_bytes());
      used[taken++] = {packet, length};
    });
    Burst burst;
    burst.frames = packets;
    burst.tap = tap;
    for (const Used& one : std::span(used).first(taken)) {
      if (!framing_.reads_header()) [[likely]] {
        take_plain(*one.packet, one.length, burst);
      } else if (merging_.missing != 0) {
        take_part(*one.packet, one.length, burst);
      } else {
        take_head(*one.packet, one.length, burst);
      }
    }
    if (burst.drops != 0) pool_.free(std::span(burst.dropped).first(burst.drops));
    if (burst.count != 0) {
      frames_.add(burst.count);
      bytes_.add(burst.bytes);
    }
    return burst.count;
  }

  /// Frames from before a reset.
  std::size_t take_kept(std::span<Packet*> packets) noexcept {
    const std::size_t count = std::min(packets.size(), kept_.size());
    std::copy_n(kept_.begin(), count, packets.begin());
    kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }

  void deliver(Packet& head, std::uint64_t bytes, Burst& burst) noexcept {
    head.queue_pair = pair_;
    burst.bytes += bytes;
    burst.frames[burst.count++] = &head;
    if (burst.tap != nullptr) [[unlikely]] {
      burst.tap->received(
          head,
          {.pair = pair_, .position = ring_.poll_position(), .in_flight = ring_.in_flight(), .size = ring_.size()});
    }
  }

  /// The ring has checked that it fits; too short for a frame it can be all the same.
  bool too_short(Packet& packet, std::uint32_t length, Burst& burst) noexcept {
    if (length >= framing_.header_bytes() + virtio::spec::net::kEthernetHeaderBytes) [[likely]]
      return false;
    short_.add();
    burst.dropped[burst.drops++] = &packet;
    return true;
  }

  void take_plain(Packet& packet, std::uint32_t length, Burst& burst) noexcept {
    if (too_short(packet, length, burst)) return;
    packet.length = length - framing_.header_bytes();
    deliver(packet, packet.length, burst);
  }

  /// Section "Processing of Incoming Packets": num_buffers says how many buffers the frame takes; the others hold nothing but
  /// its bytes.
  void take_head(Packet& packet, std::uint32_t length, Burst& burst) noexcept {
    if (bad_header_) [[unlikely]] {
      burst.dropped[burst.drops++] = &packet;
      return;
    }
    const ReceivedHeader header = framing_.read_header(packet);
    if (header.buffers == 0 || header.buffers > slots_) [[unlikely]] {
      bad_header_ = true;
      bad_buffers_ = header.buffers;
      burst.dropped[burst.drops++] = &packet;
      return;
    }
    if (too_short(packet, length, burst)) {
      merging_.missing = static_cast<std::uint16_t>(header.buffers - 1);  // the rest of it goes, too
      return;
    }
    packet.length = length - framing_.header_bytes();
    packet.offload = header.offload;
    packet.hash = header.hash;
    packet.hash_report = header.hash_report;
    if (header.buffers == 1) [[likely]]
      return finish(packet, packet.length, burst);
    merging_ = {.head = &packet,
                .tail = &packet,
                .missing = static_cast<std::uint16_t>(header.buffers - 1),
                .bytes = packet.length};
  }

  void take_part(Packet& packet, std::uint32_t length, Burst& burst) noexcept {
    if (merging_.head == nullptr) [[unlikely]] {
      merging_.missing--;
      burst.dropped[burst.drops++] = &packet;
      return;
    }
    PacketPool::move_data(packet, framing_.header_bytes());
    packet.length = length;
    merging_.tail->next = &packet;
    merging_.tail = &packet;
    merging_.bytes += length;
    if (--merging_.missing != 0) return;
    merged_.add();
    finish(*merging_.head, merging_.bytes, burst);
    merging_ = {};
  }

  /// What the header says is the device's word: it is passed on only where it makes sense for this frame.
  void finish(Packet& head, std::uint64_t bytes, Burst& burst) noexcept {
    if (head.offload.any() && !plausible(head.offload, bytes)) [[unlikely]] {
      bad_offload_.add();
      burst.dropped[burst.drops++] = &head;
      return;
    }
    deliver(head, bytes, burst);
  }

  static bool plausible(const Offload& offload, std::uint64_t bytes) noexcept {
    namespace net = virtio::spec::net;
    if ((offload.flags & net::kHeaderNeedsCsum) != 0 &&
        std::uint64_t{offload.csum_start} + offload.csum_offset + 2 > bytes)
      return false;
    const auto type = static_cast<std::uint8_t>(offload.gso_type & ~net::kGsoEcn);
    if (type == net::kGsoNone) return offload.gso_type == 0;
    if (type != net::kGsoTcp4 && type != net::kGsoTcp6 && type != net::kGsoUdp && type != net::kGsoUdpL4) return false;
    return offload.gso_size != 0 && offload.header_bytes <= bytes;
  }

  Ring ring_;
  const Framing framing_;
  PacketPool& pool_;
  platform::Atomic<bool>& any_starved_;
  std::unique_ptr<virtio::Notifier> notifier_;
  const std::uint16_t pair_;
  const std::uint16_t slots_;
  const std::uint16_t refill_at_;  // empty slots at which it pays to fill them
  Merging merging_;
  std::vector<Packet*> kept_;  // frames of before a reset, oldest first
  bool bad_header_ = false;    // from then on nobody knows where frames begin
  std::uint16_t bad_buffers_ = 0;
  platform::Atomic<bool> starved_{false};
  Counter frames_, bytes_, merged_, short_, bad_offload_, no_buffer_, lost_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
