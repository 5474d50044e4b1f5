// SPDX-License-Identifier: Apache-2.0
// How a driver touches the memory that it shares with a device: the access policies of a split ring. PlainAccess is loads
// and stores and costs nothing beyond them. ObservedAccess shows each of them to an observer, which may check it (see
// ring_lint.h), record it, or change what the ring gets to see.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/platform.h"
#include "virtio/ring.h"
#include "virtio/spec/ring.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// Where the three parts of a split ring lie within one block of memory. A value.
struct SplitLayout {
  std::size_t avail = 0;  // offset of the available ring; the descriptors are at 0
  std::size_t used = 0;   // offset of the used ring
  std::size_t bytes = 0;  // of all three

  /// The legacy layout is laid down by section "Legacy Interfaces: A Note on Virtqueue Layout". The modern one is free within
  /// its alignments; it gives the used ring, which only the device writes, cache lines of its own.
  static constexpr SplitLayout of(std::uint32_t size, bool legacy) noexcept {
    namespace ring = spec::ring;
    if (legacy) {
      return {.avail = ring::legacy_avail_offset(size),
              .used = ring::legacy_used_offset(size),
              .bytes = ring::legacy_bytes(size)};
    }
    constexpr std::size_t kLine = 64;
    const auto round_up = [](std::size_t value) { return (value + kLine - 1) / kLine * kLine; };
    const std::size_t avail = round_up(ring::descriptors_bytes(size));
    const std::size_t used = round_up(avail + ring::avail_bytes(size));
    return {.avail = avail, .used = used, .bytes = round_up(used + ring::used_bytes(size))};
  }
};

/// The tables that indirect descriptors point to: one for each descriptor of the ring, `length` entries long. A view.
struct IndirectTables {
  std::byte* memory = nullptr;
  std::uint64_t iova = 0;
  std::uint16_t length = 0;  // 0: there are none, INDIRECT_DESC was not negotiated

  static constexpr std::size_t bytes(std::uint32_t size, std::uint16_t length) noexcept {
    return std::size_t{size} * length * sizeof(spec::ring::Descriptor);
  }
  std::uint64_t iova_of(std::uint16_t descriptor) const noexcept {
    return iova + std::uint64_t{descriptor} * length * sizeof(spec::ring::Descriptor);
  }
};

/// Direct access. A view: the memory belongs to the driver. One thread at a time.
class PlainAccess {
 public:
  /// `memory` holds SplitLayout::of(size, ...).bytes, aligned to a page; `size` is a power of two.
  PlainAccess(std::byte* memory, std::uint16_t size, const SplitLayout& layout,
              const IndirectTables& tables = {}) noexcept
      : descriptors_(reinterpret_cast<spec::ring::Descriptor*>(memory)),
        avail_(memory + layout.avail),
        used_(memory + layout.used),
        mask_(static_cast<std::uint16_t>(size - 1)),
        tables_(tables) {}

  const IndirectTables& tables() const noexcept { return tables_; }
  /// The ring begins anew; see SplitRing::restart().
  void restart() noexcept {}

  // Descriptors and ring entries are ordinary memory: the device looks at them only once the index has been published.
  void write_descriptor(std::uint16_t index, const spec::ring::Descriptor& value) noexcept {
    const spec::ring::DescriptorWords words = spec::ring::words_of(value);
    std::memcpy(&descriptors_[index], &words, sizeof words);
  }
  /// Entry `position` of the table of descriptor `head`.
  void write_table_entry(std::uint16_t head, std::uint16_t position, const spec::ring::Descriptor& value) noexcept {
    reinterpret_cast<spec::ring::Descriptor*>(tables_.memory)[std::size_t{head} * tables_.length + position] = value;
  }
  void write_avail_entry(std::uint16_t index, std::uint16_t head) noexcept {
    auto* entries = reinterpret_cast<std::uint16_t*>(avail_ + spec::ring::kRingOffset);
    entries[index & mask_] = head;
  }
  /// What stands there is meant again. Nothing is done.
  void keep_avail_entry(std::uint16_t, std::uint16_t) noexcept {}
  /// Release: the descriptors and entries written before are visible to a device that sees this index. Pairs with the
  /// device's read of avail idx before it reads the entries. Section "Updating idx": "the driver MUST perform a suitable
  /// memory barrier before the idx update".
  void publish_avail_index(std::uint16_t index) noexcept {
    word(avail_, spec::ring::kIndexOffset).store(index, std::memory_order_release);
  }
  void write_avail_flags(std::uint16_t flags) noexcept {
    word(avail_, spec::ring::kFlagsOffset).store(flags, std::memory_order_relaxed);
  }
  std::uint16_t read_used_flags() noexcept {
    return word(used_, spec::ring::kFlagsOffset).load(std::memory_order_relaxed);
  }
  // With EVENT_IDX: the used index after which we want a notification, and the available index after which the device does.
  void write_used_event(std::uint16_t event) noexcept {
    word(avail_, spec::ring::used_event_offset(mask_ + 1U)).store(event, std::memory_order_relaxed);
  }
  std::uint16_t read_avail_event() noexcept {
    return word(used_, spec::ring::avail_event_offset(mask_ + 1U)).load(std::memory_order_relaxed);
  }
  /// Acquire: the used elements and the buffers below this index are read after it. Pairs with the device's barrier before
  /// it writes used idx.
  std::uint16_t read_used_index() noexcept {
    return word(used_, spec::ring::kIndexOffset).load(std::memory_order_acquire);
  }
  spec::ring::UsedElement read_used_element(std::uint16_t index) noexcept {
    const auto* elements = reinterpret_cast<const spec::ring::UsedElement*>(used_ + spec::ring::kRingOffset);
    // Copied once: the device could change it between a check and a use.
    const volatile spec::ring::UsedElement& element = elements[index & mask_];
    return {.id = element.id, .len = element.len};
  }

 private:
  using Word = platform::Atomic<std::uint16_t>;
  static_assert(sizeof(Word) == sizeof(std::uint16_t) && alignof(Word) == alignof(std::uint16_t) &&
                Word::is_always_lock_free);
  static Word& word(std::byte* part, std::size_t offset) noexcept { return *reinterpret_cast<Word*>(part + offset); }

  spec::ring::Descriptor* descriptors_;
  std::byte* avail_;
  std::byte* used_;
  std::uint16_t mask_;
  IndirectTables tables_;
};

/// Sees each access of one ring. Called by the thread that drives the ring, before a write takes effect and after a read.
/// What the read hooks return is what the ring gets to see.
class RingObserver : public RingWatcher {
 public:
  virtual void on_write_descriptor(std::uint16_t index, const spec::ring::Descriptor& value) = 0;
  virtual void on_write_table_entry(std::uint16_t head, std::uint16_t position,
                                    const spec::ring::Descriptor& value) = 0;
  virtual void on_write_avail_entry(std::uint16_t index, std::uint16_t head) = 0;
  /// In place of a write: `head` stands in entry `index` from the last time around.
  virtual void on_keep_avail_entry(std::uint16_t /*index*/, std::uint16_t /*head*/) {}
  virtual void on_publish_avail_index(std::uint16_t index) = 0;
  virtual void on_write_avail_flags(std::uint16_t flags) = 0;
  virtual void on_write_used_event(std::uint16_t event) = 0;
  virtual std::uint16_t on_read_avail_event(std::uint16_t event) = 0;
  virtual std::uint16_t on_read_used_flags(std::uint16_t flags) = 0;
  virtual std::uint16_t on_read_used_index(std::uint16_t index) = 0;
  virtual spec::ring::UsedElement on_read_used_element(std::uint16_t index, spec::ring::UsedElement element) = 0;
};

/// The same accesses, each shown to an observer. The observer outlives it.
class ObservedAccess {
 public:
  ObservedAccess(PlainAccess plain, RingObserver& observer) noexcept : plain_(plain), observer_(&observer) {}

  void write_descriptor(std::uint16_t index, const spec::ring::Descriptor& value) {
    observer_->on_write_descriptor(index, value);
    plain_.write_descriptor(index, value);
  }
  const IndirectTables& tables() const noexcept { return plain_.tables(); }
  void restart() { observer_->on_restart(); }
  void write_table_entry(std::uint16_t head, std::uint16_t position, const spec::ring::Descriptor& value) {
    observer_->on_write_table_entry(head, position, value);
    plain_.write_table_entry(head, position, value);
  }
  void write_used_event(std::uint16_t event) {
    observer_->on_write_used_event(event);
    plain_.write_used_event(event);
  }
  std::uint16_t read_avail_event() { return observer_->on_read_avail_event(plain_.read_avail_event()); }
  void write_avail_entry(std::uint16_t index, std::uint16_t head) {
    observer_->on_write_avail_entry(index, head);
    plain_.write_avail_entry(index, head);
  }
  void keep_avail_entry(std::uint16_t index, std::uint16_t head) { observer_->on_keep_avail_entry(index, head); }
  void publish_avail_index(std::uint16_t index) {
    observer_->on_publish_avail_index(index);
    plain_.publish_avail_index(index);
  }
  void write_avail_flags(std::uint16_t flags) {
    observer_->on_write_avail_flags(flags);
    plain_.write_avail_flags(flags);
  }
  std::uint16_t read_used_flags() { return observer_->on_read_used_flags(plain_.read_used_flags()); }
  std::uint16_t read_used_index() { return observer_->on_read_used_index(plain_.read_used_index()); }
  spec::ring::UsedElement read_used_element(std::uint16_t index) {
    return observer_->on_read_used_element(index, plain_.read_used_element(index));
  }

 private:
  PlainAccess plain_;
  RingObserver* observer_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio
