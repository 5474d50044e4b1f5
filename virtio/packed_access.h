// SPDX-License-Identifier: Apache-2.0
// How a driver touches the memory of a packed ring: the same two policies as for a split one (ring_access.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/platform.h"
#include "virtio/ring_access.h"
#include "virtio/spec/packed_ring.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// Where the three parts of a packed ring lie within one block of memory. A value.
struct PackedLayout {
  std::size_t driver = 0;  // offset of the driver's event suppression; the descriptors are at 0
  std::size_t device = 0;  // offset of the device's, on a cache line of its own
  std::size_t bytes = 0;

  static constexpr PackedLayout of(std::uint32_t size) noexcept {
    constexpr std::size_t kLine = 64;
    const std::size_t driver = (std::size_t{size} * sizeof(spec::packed::Descriptor) + kLine - 1) / kLine * kLine;
    return {.driver = driver, .device = driver + kLine, .bytes = driver + 2 * kLine};
  }
};

/// Direct access. A view: the memory belongs to the driver. One thread at a time.
class PackedPlainAccess {
 public:
  /// `memory` holds PackedLayout::of(size).bytes, aligned to 16.
  PackedPlainAccess(std::byte* memory, const PackedLayout& layout, const IndirectTables& tables = {}) noexcept
      : descriptors_(reinterpret_cast<spec::packed::Descriptor*>(memory)),
        driver_(memory + layout.driver),
        device_(memory + layout.device),
        tables_(tables) {}

  const IndirectTables& tables() const noexcept { return tables_; }
  /// The ring begins anew; see SplitRing::restart().
  void restart() noexcept {}

  /// Of a descriptor behind one that is not published: the device does not look at it yet.
  void write_descriptor(std::uint16_t index, const spec::packed::Descriptor& value) noexcept {
    const spec::packed::DescriptorWords words = spec::packed::words_of(value);
    std::memcpy(&descriptors_[index], &words, sizeof words);
  }
  /// Release: the device that sees these flags sees this descriptor, all others and all buffers that were written before. Section
  /// "Implementation Example": "a memory barrier before updating flags".
  void publish_descriptor(std::uint16_t index, const spec::packed::Descriptor& value) noexcept {
    descriptors_[index].addr = value.addr;
    descriptors_[index].len = value.len;
    descriptors_[index].id = value.id;
    word(flags_of(index)).store(value.flags, std::memory_order_release);
  }
  /// A hint: this one is looked at soon, and written soon after.
  void prefetch(std::size_t index) noexcept { platform::prefetch_for_write(descriptors_ + index); }
  /// Acquire: the id, the length and the buffer are read after it.
  std::uint16_t read_flags(std::uint16_t index) noexcept {
    return word(flags_of(index)).load(std::memory_order_acquire);
  }
  /// Copied once: the device could change it between a check and a use.
  spec::ring::UsedElement read_used(std::uint16_t index) noexcept {
    const volatile spec::packed::Descriptor& descriptor = descriptors_[index];
    return {.id = descriptor.id, .len = descriptor.len};
  }
  void write_table_entry(std::uint16_t table, std::uint16_t position, const spec::packed::Descriptor& value) noexcept {
    reinterpret_cast<spec::packed::Descriptor*>(tables_.memory)[std::size_t{table} * tables_.length + position] = value;
  }
  /// First where, then whether: the device must not see new flags with an old offset.
  void write_driver_event(const spec::packed::EventSuppression& event) noexcept {
    word(driver_).store(event.offset_wrap, std::memory_order_relaxed);
    word(driver_ + 2).store(event.flags, std::memory_order_release);
  }
  spec::packed::EventSuppression read_device_event() noexcept {
    const std::uint16_t flags = word(device_ + 2).load(std::memory_order_acquire);
    return {.offset_wrap = word(device_).load(std::memory_order_relaxed), .flags = flags};
  }

 private:
  using Word = platform::Atomic<std::uint16_t>;
  static_assert(sizeof(Word) == sizeof(std::uint16_t) && Word::is_always_lock_free);
  static Word& word(std::byte* at) noexcept { return *reinterpret_cast<Word*>(at); }
  std::byte* flags_of(std::uint16_t index) noexcept {
    return reinterpret_cast<std::byte*>(descriptors_ + index) + offsetof(spec::packed::Descriptor, flags);
  }

  spec::packed::Descriptor* descriptors_;
  std::byte* driver_;
  std::byte* device_;
  IndirectTables tables_;
};

/// Sees each access of one packed ring; as RingObserver.
class PackedObserver : public RingWatcher {
 public:
  virtual void on_write_body(std::uint16_t index, std::uint64_t addr, std::uint32_t len, std::uint16_t id) = 0;
  /// `published`: the device can see it from now on, and whatever was written behind it.
  virtual void on_write_flags(std::uint16_t index, std::uint16_t flags, bool published) = 0;
  virtual void on_write_table_entry(std::uint16_t table, std::uint16_t position,
                                    const spec::packed::Descriptor& value) = 0;
  virtual void on_write_driver_event(const spec::packed::EventSuppression& event) = 0;
  virtual spec::packed::EventSuppression on_read_device_event(spec::packed::EventSuppression event) = 0;
  virtual std::uint16_t on_read_flags(std::uint16_t index, std::uint16_t flags) = 0;
  virtual spec::ring::UsedElement on_read_used(std::uint16_t index, spec::ring::UsedElement element) = 0;
};

/// The same accesses, each shown to an observer. The observer outlives it.
class PackedObservedAccess {
 public:
  PackedObservedAccess(PackedPlainAccess plain, PackedObserver& observer) noexcept
      : plain_(plain), observer_(&observer) {}

  const IndirectTables& tables() const noexcept { return plain_.tables(); }
  void restart() { observer_->on_restart(); }
  void write_descriptor(std::uint16_t index, const spec::packed::Descriptor& value) {
    show(index, value, false);
    plain_.write_descriptor(index, value);
  }
  void publish_descriptor(std::uint16_t index, const spec::packed::Descriptor& value) {
    show(index, value, true);
    plain_.publish_descriptor(index, value);
  }
  void prefetch(std::size_t index) noexcept { plain_.prefetch(index); }
  std::uint16_t read_flags(std::uint16_t index) { return observer_->on_read_flags(index, plain_.read_flags(index)); }
  spec::ring::UsedElement read_used(std::uint16_t index) {
    return observer_->on_read_used(index, plain_.read_used(index));
  }
  void write_table_entry(std::uint16_t table, std::uint16_t position, const spec::packed::Descriptor& value) {
    observer_->on_write_table_entry(table, position, value);
    plain_.write_table_entry(table, position, value);
  }
  void write_driver_event(const spec::packed::EventSuppression& event) {
    observer_->on_write_driver_event(event);
    plain_.write_driver_event(event);
  }
  spec::packed::EventSuppression read_device_event() {
    return observer_->on_read_device_event(plain_.read_device_event());
  }

 private:
  void show(std::uint16_t index, const spec::packed::Descriptor& value, bool published) {
    observer_->on_write_body(index, value.addr, value.len, value.id);
    observer_->on_write_flags(index, value.flags, published);
  }

  PackedPlainAccess plain_;
  PackedObserver* observer_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio
