// SPDX-License-Identifier: Apache-2.0
// The driver's side of a split virtqueue. Section "Split Virtqueues".
//
// The ring owns no buffers: a chain is made of {iova, len} segments and carries an opaque cookie, which comes back when the
// device has used the chain. The device is never trusted: what it writes is checked against a private copy of what was made
// available, and a device that breaks the rules breaks the ring, not the process.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "virtio/ring.h"
#include "virtio/ring_access.h"
#include "virtio/spec/ring.h"
#include "virtio/transport.h"

namespace upci::inline UPCI_VARIANT::virtio {

// Modern rings are little-endian, legacy ones have the machine's order; on a little-endian machine these are one.
static_assert(std::endian::native == std::endian::little);

/// Where the device is to be told that the parts of a ring lie.
inline QueueAddresses ring_addresses(std::uint64_t iova, const SplitLayout& layout) noexcept {
  return {.descriptors = iova, .driver = iova + layout.avail, .device = iova + layout.used};
}

/// One thread at a time. `Access` is PlainAccess or ObservedAccess.
template <class Access>
class SplitRing {
 public:
  /// `size` has been checked (choose_queue_size); the memory behind `access` is zeroed.
  SplitRing(Access access, std::uint16_t size, const RingOptions& options)
      : access_(access),
        size_(size),
        options_(options),
        slots_(size),
        heads_(size),
        counters_(std::make_unique<RingCounters>()),
        free_tail_(static_cast<std::uint16_t>(size - 1)),
        free_count_(size) {
    chain_up_slots();
  }

  std::uint16_t size() const noexcept { return size_; }
  /// Descriptors that are free now.
  std::uint16_t room() const noexcept { return free_count_; }
  /// Chains that the device has and has not given back.
  std::uint16_t in_flight() const noexcept { return in_flight_; }
  const RingCounters& counters() const noexcept { return *counters_; }
  /// Where the driver goes on, as a device wants to be told with NOTIFICATION_DATA. Section "Driver Notifications".
  std::uint16_t next_position() const noexcept { return published_; }
  /// Where add() writes next: for those who watch.
  std::uint16_t add_position() const noexcept { return avail_index_; }
  /// Where poll() looks next.
  std::uint16_t poll_position() const noexcept { return used_index_; }
  bool broken() const noexcept { return fault_ != RingFault::kNone; }
  /// Why the ring is broken. Such a ring takes and gives nothing any more.
  std::optional<Error> error() const {
    if (!broken()) return std::nullopt;
    return ring_error(fault_, fault_value_, fault_limit_);
  }

  /// Makes a chain ready; publish() makes it available. Segments that the device reads come before those that it writes
  /// (section "Message Framing / The Virtqueue Descriptor Table": the driver MUST place them so). False when there is no room
  /// or the ring is broken. `cookie` must not be null.
  bool add(std::span<const Segment> chain, void* cookie) {
    const std::size_t count = chain.size();
    if (count == 1) return add_one(chain[0], cookie);
    if (count == 0 || free_count_ == 0 || broken()) [[unlikely]]
      return false;
    if (count <= access_.tables().length) return add_indirect(chain, cookie);
    if (count > free_count_) [[unlikely]]
      return false;
    const std::uint16_t head = free_head_;
    std::uint16_t index = head;
    std::uint16_t last = head;
    std::uint64_t writable = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Segment& segment = chain[i];
      const bool more = i + 1 < count;
      const std::uint16_t next = slots_[index].next;
      std::uint16_t flags = segment.device_writes ? spec::ring::kDescWrite : std::uint16_t{0};
      if (more) flags = static_cast<std::uint16_t>(flags | spec::ring::kDescNext);
      write_descriptor(
          index, {.addr = segment.iova, .len = segment.len, .flags = flags, .next = more ? next : std::uint16_t{0}});
      if (segment.device_writes) writable += segment.len;
      last = index;
      index = next;
    }
    take_descriptors(head, last, index, static_cast<std::uint16_t>(count));
    make_ready(head, cookie, writable);
    return true;
  }

  /// The same for a chain of one segment, which nearly all are.
  bool add_one(const Segment& segment, void* cookie) {
    if (free_count_ == 0 || broken()) [[unlikely]]
      return false;
    const std::uint16_t head = free_head_;
    write_descriptor(head, {.addr = segment.iova,
                            .len = segment.len,
                            .flags = segment.device_writes ? spec::ring::kDescWrite : std::uint16_t{0},
                            .next = 0});
    take_descriptors(head, head, slots_[head].next, 1);
    make_ready(head, cookie, segment.device_writes ? segment.len : 0);
    return true;
  }

  /// With EVENT_IDX: the device may need several chains at once, wait with some of them unused, and have said that it waits only at
  /// those. QEMU 7.2 does: a receive queue that has buffers, but too few for a long frame, when the driver adds some at the moment in
  /// which it looks. Once; restart() keeps it.
  void expect_partial_waits() noexcept { partial_waits_ = true; }

  /// Makes everything added so far available. True when the device wants to be notified (section "Available Buffer
  /// Notification Suppression").
  bool publish() {
    if (avail_index_ == published_) return false;
    access_.publish_avail_index(avail_index_);
    const std::uint16_t before = std::exchange(published_, avail_index_);
    ++publication_;
    // Full barrier between our avail idx and our look at the device's flags. Pairs with the device's barrier between its
    // clearing of NO_NOTIFY and its last look at avail idx: one of the two sees the other's store. Section "Notifying The
    // Device": "the driver MUST perform a suitable memory barrier before reading flags".
    platform::fence(std::memory_order_seq_cst);
    bool wanted = false;
    if (options_.event_idx) {
      // Such a device has asked at an entry that it has not used yet: all that are in flight count.
      const auto since = partial_waits_ ? static_cast<std::uint16_t>(published_ - in_flight_) : before;
      wanted = spec::ring::event_reached(access_.read_avail_event(), published_, since);
    } else {
      wanted = (access_.read_used_flags() & spec::ring::kUsedNoNotify) == 0;
      // It lies right behind, and the next poll() may do with what stands there now.
      look_at_used_index();
    }
    RingCounters::add(wanted ? counters_->kicks : counters_->kicks_suppressed);
    return wanted;
  }

  /// Gives up to `limit` used chains to `take(void* cookie, std::uint32_t len)`, oldest first; returns how many. `take` may
  /// call add(). Everything that the device wrote is checked first.
  template <class F>
  std::size_t poll(std::size_t limit, F&& take) {
    if (broken()) [[unlikely]]
      return 0;
    auto ready = static_cast<std::uint16_t>(seen_used_ - used_index_);
    if (ready < limit) {
      // The device's CPU writes this line all the time: it is looked at only when what was seen there before does not do.
      if (!look_at_used_index()) [[unlikely]]
        return 0;
      ready = static_cast<std::uint16_t>(seen_used_ - used_index_);
    }
    std::size_t taken = 0;
    while (taken < limit && taken < ready) {
      if (!in_batch_) {
        element_ = access_.read_used_element(used_index_);
        if (!check(element_)) [[unlikely]]
          return taken;
      }
      std::uint16_t id = static_cast<std::uint16_t>(element_.id);
      // A legacy device may say anything of a chain that it only reads: nothing was written there.
      std::uint32_t length = std::min(element_.len, slots_[id].writable);
      if (options_.in_order) {
        // One element can stand for a batch: its id is the last chain's, and those before it were used up wholly. Section
        // "Split Virtqueues / In-order use of descriptors".
        const std::uint16_t oldest = heads_[used_index_ & (size_ - 1U)];
        in_batch_ = oldest != id;
        if (in_batch_) {
          id = oldest;
          length = slots_[oldest].writable;
          RingCounters::add(counters_->batched);
          if (taken + 1 == ready) [[unlikely]] {
            fail_ring(RingFault::kBatchTooLong, element_.id, ready);
            return taken;
          }
        }
      }
      void* const cookie = release(id);
      ++used_index_;
      ++taken;
      take(cookie, length);
    }
    return taken;
  }

  /// Whether poll() would find something. A broken ring has nothing.
  bool has_used() { return !broken() && (seen_used_ != used_index_ || access_.read_used_index() != used_index_); }

  /// Asks for used buffer notifications. True when something was used meanwhile: poll again, no notification may come for
  /// that. Section "Used Buffer Notification Suppression".
  bool enable_interrupts() {
    if (options_.event_idx) {
      access_.write_used_event(used_index_);
    } else {
      access_.write_avail_flags(0);
    }
    // Full barrier between our wish and our look at used idx. Pairs with the device's barrier between its used idx and its
    // look at our wish: one of the two sees the other's store, so that no used buffer is left without a notification.
    platform::fence(std::memory_order_seq_cst);
    return has_used();
  }
  /// A hint to the device; notifications may still come.
  void disable_interrupts() {
    if (options_.event_idx) {
      // As far away as there is. The flags stay 0: section "Used Buffer Notification Suppression" demands it.
      access_.write_used_event(static_cast<std::uint16_t>(used_index_ - 1));
    } else {
      access_.write_avail_flags(spec::ring::kAvailNoInterrupt);
    }
  }

  /// Gives every chain that is in flight to `take(void* cookie)`. Only once the device is known to be quiet; the ring is not
  /// used afterwards, but by restart().
  template <class F>
  void detach_all(F&& take) {
    for (Slot& slot : slots_) {
      if (slot.cookie == nullptr) continue;
      void* const cookie = slot.cookie;
      slot.cookie = nullptr;
      take(cookie);
    }
    in_flight_ = 0;
  }

  /// Begins anew after a reset of the device, once detach_all() has been called and the memory zeroed. Counters go on.
  void restart() {
    access_.restart();
    for (Slot& slot : slots_) slot.written = {};
    std::ranges::fill(heads_, std::uint16_t{0});
    chain_up_slots();
    free_head_ = 0;
    free_tail_ = static_cast<std::uint16_t>(size_ - 1);
    free_count_ = size_;
    avail_index_ = published_ = used_index_ = seen_used_ = 0;
    in_batch_ = false;
    fault_ = RingFault::kNone;
  }

 private:
  /// What the driver knows of one descriptor. The device cannot reach it.
  struct Slot {
    void* cookie = nullptr;               // of the chain that begins here while it is in flight, else null
    std::uint32_t writable = 0;           // bytes of the chain that the device may write
    std::uint16_t next = 0;               // next descriptor of the chain, or of the free list
    std::uint16_t last = 0;               // last descriptor of the chain that begins here
    std::uint16_t count = 0;              // descriptors of the chain that begins here
    std::uint32_t publication = 0;        // the one that makes the chain available
    spec::ring::DescriptorWords written;  // what stands in this descriptor
  };

  void chain_up_slots() noexcept {
    for (std::uint32_t i = 0; i < size_; ++i) slots_[i].next = static_cast<std::uint16_t>(i + 1);
  }

  /// What stands there already is not written again: the line stays in the cache of the device's CPU.
  void write_descriptor(std::uint16_t index, const spec::ring::Descriptor& value) {
    const spec::ring::DescriptorWords words = spec::ring::words_of(value);
    if (slots_[index].written == words) return;
    slots_[index].written = words;
    access_.write_descriptor(index, value);
  }

  bool add_indirect(std::span<const Segment> chain, void* cookie) {
    const std::uint16_t head = free_head_;
    std::uint64_t writable = 0;
    for (std::size_t i = 0; i < chain.size(); ++i) {
      const Segment& segment = chain[i];
      const bool more = i + 1 < chain.size();
      std::uint16_t flags = segment.device_writes ? spec::ring::kDescWrite : std::uint16_t{0};
      if (more) flags = static_cast<std::uint16_t>(flags | spec::ring::kDescNext);
      access_.write_table_entry(head, static_cast<std::uint16_t>(i),
                                {.addr = segment.iova,
                                 .len = segment.len,
                                 .flags = flags,
                                 .next = static_cast<std::uint16_t>(more ? i + 1 : 0)});
      if (segment.device_writes) writable += segment.len;
    }
    write_descriptor(head, {.addr = access_.tables().iova_of(head),
                            .len = static_cast<std::uint32_t>(chain.size() * sizeof(spec::ring::Descriptor)),
                            .flags = spec::ring::kDescIndirect,
                            .next = 0});
    RingCounters::add(counters_->indirect);
    take_descriptors(head, head, slots_[head].next, 1);
    make_ready(head, cookie, writable);
    return true;
  }

  /// Takes `count` descriptors, from `head` to `last`, off the free list, which goes on at `next`.
  void take_descriptors(std::uint16_t head, std::uint16_t last, std::uint16_t next, std::uint16_t count) noexcept {
    slots_[head].last = last;
    slots_[head].count = count;
    free_head_ = next;
    free_count_ = static_cast<std::uint16_t>(free_count_ - count);
  }
  void make_ready(std::uint16_t head, void* cookie, std::uint64_t writable) {
    slots_[head].cookie = cookie;
    slots_[head].writable = static_cast<std::uint32_t>(std::min<std::uint64_t>(writable, ~std::uint32_t{0}));
    slots_[head].publication = publication_;
    ++in_flight_;
    // As with descriptors: only what changes.
    if (std::uint16_t& entry = heads_[avail_index_ & (size_ - 1U)]; entry != head) {
      entry = head;
      access_.write_avail_entry(avail_index_, head);
    } else {
      access_.keep_avail_entry(avail_index_, head);
    }
    ++avail_index_;
  }

  /// Acquires everything that was used so far. False when the device cannot have used so much: the ring is broken then.
  bool look_at_used_index() {
    const auto ready = static_cast<std::uint16_t>(access_.read_used_index() - used_index_);
    // What is not published yet cannot have been used.
    const auto unpublished = static_cast<std::uint16_t>(avail_index_ - published_);
    const auto possible = static_cast<std::uint16_t>(in_flight_ - unpublished);
    if (ready > possible) [[unlikely]] {
      fail_ring(RingFault::kIndexAhead, ready, possible);
      return false;
    }
    seen_used_ = static_cast<std::uint16_t>(used_index_ + ready);
    return true;
  }

  /// Whether the device may have used this; breaks the ring otherwise.
  bool check(const spec::ring::UsedElement& element) noexcept {
    if (element.id >= size_) [[unlikely]] {
      fail_ring(RingFault::kIdOutOfRange, element.id, size_);
      return false;
    }
    const Slot& slot = slots_[element.id];
    // Nor has the device anything of what waits for the next publication.
    if (slot.cookie == nullptr || slot.publication == publication_) [[unlikely]] {
      fail_ring(RingFault::kIdNotInFlight, element.id, size_);
      return false;
    }
    if (element.len > slot.writable && !(options_.legacy && slot.writable == 0)) [[unlikely]] {
      fail_ring(RingFault::kLengthTooLong, element.len, slot.writable);
      return false;
    }
    return true;
  }

  /// Puts the chain's descriptors at the end of the free list: chains that come back in order find the same descriptors and
  /// available entries as the last time around.
  void* release(std::uint16_t head) noexcept {
    Slot& slot = slots_[head];
    void* const cookie = slot.cookie;
    slot.cookie = nullptr;
    (free_count_ == 0 ? free_head_ : slots_[free_tail_].next) = head;
    free_tail_ = slot.last;
    free_count_ = static_cast<std::uint16_t>(free_count_ + slot.count);
    --in_flight_;
    return cookie;
  }

  void fail_ring(RingFault fault, std::uint32_t value, std::uint32_t limit) noexcept {
    fault_ = fault;
    fault_value_ = value;
    fault_limit_ = limit;
  }

  Access access_;
  const std::uint16_t size_;
  const RingOptions options_;
  std::vector<Slot> slots_;
  std::vector<std::uint16_t> heads_;        // what stands in the available ring
  std::unique_ptr<RingCounters> counters_;  // never null but moved from
  std::uint16_t free_head_ = 0;             // where free_count_ is not 0
  std::uint16_t free_tail_;                 // the same
  std::uint16_t free_count_;
  std::uint16_t in_flight_ = 0;
  std::uint16_t avail_index_ = 0;  // of the next entry; what is below published_ the device has seen
  std::uint16_t published_ = 0;
  std::uint32_t publication_ = 0;      // that comes next
  std::uint16_t used_index_ = 0;       // of the next used element to look at
  std::uint16_t seen_used_ = 0;        // the device's index when it was last read and found possible
  spec::ring::UsedElement element_{};  // the last one that was read
  bool partial_waits_ = false;         // see expect_partial_waits()
  bool in_batch_ = false;              // IN_ORDER: it stands for this chain and those before it
  RingFault fault_ = RingFault::kNone;
  std::uint32_t fault_value_ = 0;
  std::uint32_t fault_limit_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::virtio
