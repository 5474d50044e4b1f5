// SPDX-License-Identifier: Apache-2.0
// The driver's side of a packed virtqueue. Section "Packed Virtqueues". The interface is SplitRing's, and so is the distrust:
// what the device writes is checked against a private copy, and a device that breaks the rules breaks the ring.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "virtio/packed_access.h"
#include "virtio/ring.h"
#include "virtio/spec/packed_ring.h"
#include "virtio/transport.h"

namespace upci::inline UPCI_VARIANT::virtio {

static_assert(std::endian::native == std::endian::little);

/// Where the device is to be told that the parts of a packed ring lie.
inline QueueAddresses ring_addresses(std::uint64_t iova, const PackedLayout& layout) noexcept {
  return {.descriptors = iova, .driver = iova + layout.driver, .device = iova + layout.device};
}

/// One thread at a time. `Access` is PackedPlainAccess or PackedObservedAccess.
template <class Access>
class PackedRing {
 public:
  /// `size` has been checked (choose_queue_size); the memory behind `access` is zeroed: nothing is available and nothing used,
  /// as both wrap counters begin at 1.
  PackedRing(Access access, std::uint16_t size, const RingOptions& options)
      : access_(access),
        size_(size),
        options_(options),
        slots_(size),
        order_(options.in_order ? size : 0),
        counters_(std::make_unique<RingCounters>()),
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
  std::uint16_t next_position() const noexcept { return spec::packed::offset_wrap(next_avail_, avail_wrap_); }
  /// As SplitRing's: descriptor, and the wrap counter in the highest bit.
  std::uint16_t add_position() const noexcept { return spec::packed::offset_wrap(next_avail_, avail_wrap_); }
  std::uint16_t poll_position() const noexcept { return spec::packed::offset_wrap(next_used_, used_wrap_); }
  bool broken() const noexcept { return fault_ != RingFault::kNone; }
  /// Why the ring is broken. Such a ring takes and gives nothing any more.
  std::optional<Error> error() const {
    if (!broken()) return std::nullopt;
    return ring_error(fault_, fault_value_, fault_limit_);
  }

  /// As SplitRing::add(). The first descriptor since the last publish() gets its flags only there: the device stops at it, and
  /// sees nothing of what lies behind.
  bool add(std::span<const Segment> chain, void* cookie) {
    const std::size_t count = chain.size();
    if (count == 1) return add_one(chain[0], cookie);
    if (count == 0 || free_count_ == 0 || broken()) [[unlikely]]
      return false;
    const bool indirect = count <= access_.tables().length;
    const auto taken = indirect ? std::uint16_t{1} : static_cast<std::uint16_t>(std::min<std::size_t>(count, 0xffff));
    if (taken > free_count_) [[unlikely]]
      return false;
    const std::uint16_t id = free_id_;
    std::uint64_t writable = 0;
    if (indirect) {
      write_table(id, chain);
      put(access_.tables().iova_of(id), static_cast<std::uint32_t>(count * sizeof(spec::packed::Descriptor)), id,
          spec::packed::kDescIndirect);
      RingCounters::add(counters_->indirect);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const Segment& segment = chain[i];
      if (segment.device_writes) writable += segment.len;
      if (indirect) continue;
      std::uint16_t flags = segment.device_writes ? spec::packed::kDescWrite : std::uint16_t{0};
      if (i + 1 < count) flags = static_cast<std::uint16_t>(flags | spec::packed::kDescNext);
      put(segment.iova, segment.len, id, flags);
    }
    make_ready(id, cookie, writable, taken);
    return true;
  }

  /// The same for a chain of one segment, which nearly all are.
  bool add_one(const Segment& segment, void* cookie) {
    if (free_count_ == 0 || broken()) [[unlikely]]
      return false;
    const std::uint16_t id = free_id_;
    put(segment.iova, segment.len, id, segment.device_writes ? spec::packed::kDescWrite : std::uint16_t{0});
    make_ready(id, cookie, segment.device_writes ? segment.len : 0, 1);
    return true;
  }

  /// As SplitRing::expect_partial_waits(). Nothing to do: publish() always reckons with it.
  void expect_partial_waits() noexcept {}

  /// Makes everything added so far available. True when the device wants to be notified (section "Available Buffer
  /// Notification Suppression").
  bool publish() {
    if (unpublished_ == 0) return false;
    // The first one last.
    for (std::uint16_t i = 1; i < std::min(unpublished_, held_limit_); ++i) {
      access_.write_descriptor(static_cast<std::uint16_t>(first_index_ + i), held_[i]);
    }
    access_.publish_descriptor(first_index_, held_[0]);
    const std::uint16_t count = unpublished_;
    const bool begin_wrap = first_index_ < next_avail_ ? avail_wrap_ : !avail_wrap_;
    unpublished_ = 0;
    ++publication_;
    // Full barrier between our flags and our look at the device's wish. Pairs with the device's barrier between its wish and
    // its last look at the descriptor: one of the two sees the other's store.
    platform::fence(std::memory_order_seq_cst);
    const spec::packed::EventSuppression event = access_.read_device_event();
    bool wanted = false;
    switch (event.flags & spec::packed::kEventFlagsMask) {
      case spec::packed::kEventDisable: break;
      case spec::packed::kEventDescriptor:
        // From a device that was not offered EVENT_IDX it means nothing; telling it too often harms nobody.
        // One that waits at a descriptor that it passed long ago has not said anew where it waits: QEMU 7.2 does not when it begins to
        // wait in the middle of a receive queue, with too few buffers for a frame, or has sent what had to wait for its peer.
        wanted = !options_.event_idx || spec::packed::event_reached(event, first_index_, begin_wrap, count, size_);
        break;
      default: wanted = true;
    }
    RingCounters::add(wanted ? counters_->kicks : counters_->kicks_suppressed);
    return wanted;
  }

  /// As SplitRing::poll().
  template <class F>
  std::size_t poll(std::size_t limit, F&& take) {
    if (broken()) [[unlikely]]
      return 0;
    std::size_t taken = 0;
    while (taken < limit) {
      if (!in_batch_) {
        const std::uint16_t flags = access_.read_flags(next_used_);
        if (!spec::packed::is_used(flags, used_wrap_)) break;
        if (taken == 0) prefetch_used(limit);
        element_ = access_.read_used(next_used_);
        if (!check(element_, flags)) [[unlikely]]
          break;
      }
      auto id = static_cast<std::uint16_t>(element_.id);
      std::uint32_t length = element_.len;
      if (options_.in_order) {
        // One used descriptor can stand for a batch. Section "Packed Virtqueues / In-order use of descriptors".
        const std::uint16_t oldest = order_[order_begin_];
        order_begin_ = after(order_begin_);
        in_batch_ = oldest != id;
        if (in_batch_) {
          id = oldest;
          length = slots_[oldest].writable;
          RingCounters::add(counters_->batched);
        }
      }
      void* const cookie = release(id);
      ++taken;
      take(cookie, length);
    }
    return taken;
  }

  /// Whether poll() would find something. A broken ring has nothing.
  bool has_used() {
    return !broken() && (in_batch_ || spec::packed::is_used(access_.read_flags(next_used_), used_wrap_));
  }

  /// As SplitRing::enable_interrupts().
  bool enable_interrupts() {
    access_.write_driver_event(
        {.offset_wrap = spec::packed::offset_wrap(next_used_, used_wrap_),
         .flags = options_.event_idx ? spec::packed::kEventDescriptor : spec::packed::kEventEnable});
    // Full barrier between our wish and our look at the descriptor; pairs with the device's between its used descriptor and
    // its look at our wish.
    platform::fence(std::memory_order_seq_cst);
    return has_used();
  }
  /// A hint to the device; notifications may still come.
  void disable_interrupts() { access_.write_driver_event({.offset_wrap = 0, .flags = spec::packed::kEventDisable}); }

  /// As SplitRing::detach_all().
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

  /// As SplitRing::restart().
  void restart() {
    access_.restart();
    chain_up_slots();
    free_id_ = 0;
    free_count_ = size_;
    next_avail_ = next_used_ = 0;
    avail_wrap_ = used_wrap_ = true;
    unpublished_ = 0;
    order_begin_ = order_end_ = 0;
    in_batch_ = false;
    fault_ = RingFault::kNone;
  }

 private:
  static constexpr unsigned kPerLine = 64 / sizeof(spec::packed::Descriptor);

  /// What the driver knows of one buffer id. The device cannot reach it.
  struct Slot {
    void* cookie = nullptr;         // of the chain with this id while it is in flight, else null
    std::uint32_t writable = 0;     // bytes of the chain that the device may write
    std::uint16_t count = 0;        // descriptors of the chain
    std::uint16_t next_free = 0;    // next id of the free list
    std::uint32_t publication = 0;  // the one that makes the chain available
  };

  void chain_up_slots() noexcept {
    for (std::uint32_t i = 0; i < size_; ++i) slots_[i].next_free = static_cast<std::uint16_t>(i + 1);
  }

  std::uint16_t after(std::uint16_t index) const noexcept {
    return index + 1U == size_ ? std::uint16_t{0} : static_cast<std::uint16_t>(index + 1);
  }

  /// Writes the next descriptor.
  void put(std::uint64_t addr, std::uint32_t len, std::uint16_t id, std::uint16_t flags) {
    flags = static_cast<std::uint16_t>(flags | spec::packed::available_marks(avail_wrap_));
    if (unpublished_ == 0) {
      first_index_ = next_avail_;
      const unsigned line_end = (first_index_ / kPerLine + 1) * kPerLine;
      held_limit_ = static_cast<std::uint16_t>(std::min<unsigned>(line_end, size_) - first_index_);
    }
    const spec::packed::Descriptor descriptor{.addr = addr, .len = len, .id = id, .flags = flags};
    if (unpublished_ < held_limit_) {
      held_[unpublished_] = descriptor;
    } else {
      access_.write_descriptor(next_avail_, descriptor);
    }
    ++unpublished_;
    if (++next_avail_ == size_) {
      next_avail_ = 0;
      avail_wrap_ = !avail_wrap_;
    }
  }

  /// Section "Indirect Flag: Scatter-Gather Support": only the WRITE flag means something in a table, and the order is that of
  /// the entries.
  void write_table(std::uint16_t table, std::span<const Segment> chain) {
    for (std::size_t i = 0; i < chain.size(); ++i) {
      access_.write_table_entry(table, static_cast<std::uint16_t>(i),
                                {.addr = chain[i].iova,
                                 .len = chain[i].len,
                                 .id = 0,
                                 .flags = chain[i].device_writes ? spec::packed::kDescWrite : std::uint16_t{0}});
    }
  }

  void make_ready(std::uint16_t id, void* cookie, std::uint64_t writable, std::uint16_t descriptors) noexcept {
    Slot& slot = slots_[id];
    free_id_ = slot.next_free;
    slot.cookie = cookie;
    slot.writable = static_cast<std::uint32_t>(std::min<std::uint64_t>(writable, ~std::uint32_t{0}));
    slot.count = descriptors;
    slot.publication = publication_;
    free_count_ = static_cast<std::uint16_t>(free_count_ - descriptors);
    if (options_.in_order) {
      order_[order_end_] = id;
      order_end_ = after(order_end_);
    }
    ++in_flight_;
  }

  /// Where one is used, more are: the lines of up to `limit` come together, and not each when it is looked at. To be written, as they
  /// will be next: otherwise each would be asked for twice.
  void prefetch_used(std::size_t limit) noexcept {
    const std::size_t end = std::min<std::size_t>(next_used_ + std::min<std::size_t>(limit, in_flight_), size_);
    for (std::size_t i = next_used_ + std::size_t{kPerLine}; i < end; i += kPerLine) access_.prefetch(i);
  }

  bool check(spec::ring::UsedElement& element, std::uint16_t flags) noexcept {
    if (element.id >= size_) [[unlikely]]
      return fail_ring(RingFault::kIdOutOfRange, element.id, size_);
    const Slot& slot = slots_[element.id];
    // What is not published yet cannot have been used.
    if (slot.cookie == nullptr || slot.publication == publication_) [[unlikely]]
      return fail_ring(RingFault::kIdNotInFlight, element.id, size_);
    if (element.len > slot.writable) [[unlikely]] {
      // Section "Element Address and Length": without the WRITE flag the length of a used descriptor is reserved, and drivers
      // ignore it: DPDK's vhost leaves there what the driver wrote. But QEMU never sets that flag, so that where something can be
      // written the length counts in any case.
      if (slot.writable != 0 || (flags & spec::packed::kDescWrite) != 0)
        return fail_ring(RingFault::kLengthTooLong, element.len, slot.writable);
      element.len = 0;
    }
    return true;
  }

  void* release(std::uint16_t id) noexcept {
    Slot& slot = slots_[id];
    void* const cookie = slot.cookie;
    slot.cookie = nullptr;
    slot.next_free = free_id_;
    free_id_ = id;
    free_count_ = static_cast<std::uint16_t>(free_count_ + slot.count);
    --in_flight_;
    const std::uint32_t next = std::uint32_t{next_used_} + slot.count;
    used_wrap_ = next >= size_ ? !used_wrap_ : used_wrap_;
    next_used_ = static_cast<std::uint16_t>(next >= size_ ? next - size_ : next);
    return cookie;
  }

  bool fail_ring(RingFault fault, std::uint32_t value, std::uint32_t limit) noexcept {
    fault_ = fault;
    fault_value_ = value;
    fault_limit_ = limit;
    return false;
  }

  Access access_;
  const std::uint16_t size_;
  const RingOptions options_;
  std::vector<Slot> slots_;                 // by buffer id
  std::vector<std::uint16_t> order_;        // IN_ORDER: the ids in flight, a ring from order_begin_ to order_end_
  std::unique_ptr<RingCounters> counters_;  // never null but moved from
  std::uint16_t free_id_ = 0;
  std::uint16_t free_count_;
  std::uint16_t in_flight_ = 0;
  std::uint16_t next_avail_ = 0;  // descriptor to write next
  std::uint16_t next_used_ = 0;   // descriptor to look at next
  bool avail_wrap_ = true;
  bool used_wrap_ = true;
  std::uint16_t unpublished_ = 0;  // descriptors written since the last publish()
  std::uint32_t publication_ = 0;  // that comes next
  std::uint16_t first_index_ = 0;  // the first of them
  // Those of them that lie in the first one's cache line are written together: the device polls it, and it would go to and fro.
  std::array<spec::packed::Descriptor, kPerLine> held_{};
  std::uint16_t held_limit_ = 0;  // as many are held
  std::uint16_t order_begin_ = 0;
  std::uint16_t order_end_ = 0;
  spec::ring::UsedElement element_{};  // the last one that was read
  bool in_batch_ = false;              // IN_ORDER: it stands for this chain and those before it
  RingFault fault_ = RingFault::kNone;
  std::uint32_t fault_value_ = 0;
  std::uint32_t fault_limit_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::virtio
