// SPDX-License-Identifier: Apache-2.0
// The device's side of a ring in ordinary memory, as it should be played and as it should not: the fuzzer decides.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "virtio/packed_access.h"
#include "virtio/ring_access.h"

namespace upci::inline UPCI_VARIANT::fuzz {

namespace ring = virtio::spec::ring;
namespace packed = virtio::spec::packed;

class RingDevice {
 public:
  virtual ~RingDevice() = default;
  /// The id of the next chain that the driver made available, or nothing. What the driver's memory says is believed only as
  /// far as it cannot lead out of the ring: the fuzzer writes there as well.
  virtual std::optional<std::uint16_t> take() = 0;
  /// Of the chain that was taken last, as its descriptors say: where its first and its last buffer lie; or, where it is
  /// indirect, its table, of so many bytes.
  struct Chain {
    std::uint64_t first = 0, last = 0;
    std::uint32_t table_bytes = 0;
  };
  const Chain& chain() const noexcept { return chain_; }
  /// Says of any id that so many bytes were written, in the right place.
  virtual void use(std::uint32_t id, std::uint32_t length) = 0;
  /// Goes anywhere.
  virtual void jump(std::uint16_t to) = 0;
  /// Whether, and where, it wants to be told.
  virtual void wish(std::uint16_t flags, std::uint16_t event) = 0;

 protected:
  Chain chain_;
};

class SplitDevice final : public RingDevice {
 public:
  SplitDevice(std::byte* memory, std::uint16_t size, const virtio::SplitLayout& layout)
      : descriptors_(memory), avail_(memory + layout.avail), used_(memory + layout.used), size_(size) {}

  std::optional<std::uint16_t> take() override {
    if (get(avail_ + ring::kIndexOffset) == taken_) return std::nullopt;
    const std::uint16_t head = get(avail_ + ring::kRingOffset + 2 * std::size_t{taken_++ % std::uint32_t{size_}});
    ring::Descriptor descriptor = descriptor_at(head);
    chain_ = {.first = descriptor.addr, .last = descriptor.addr};
    if ((descriptor.flags & ring::kDescIndirect) != 0) chain_.table_bytes = descriptor.len;
    for (unsigned i = 0; i < size_ && (descriptor.flags & ring::kDescNext) != 0; ++i) {
      descriptor = descriptor_at(descriptor.next);
      chain_.last = descriptor.addr;
    }
    return head;
  }
  void use(std::uint32_t id, std::uint32_t length) override {
    const ring::UsedElement element{.id = id, .len = length};
    std::memcpy(used_ + ring::kRingOffset + sizeof(element) * (index_ % std::size_t{size_}), &element, sizeof(element));
    jump(static_cast<std::uint16_t>(index_ + 1));
  }
  void jump(std::uint16_t to) override {
    index_ = to;
    put(used_ + ring::kIndexOffset, to);
  }
  void wish(std::uint16_t flags, std::uint16_t event) override {
    put(used_ + ring::kFlagsOffset, flags);
    put(used_ + ring::avail_event_offset(size_), event);
  }

 private:
  ring::Descriptor descriptor_at(std::uint16_t index) const {
    ring::Descriptor descriptor;
    std::memcpy(&descriptor, descriptors_ + sizeof(descriptor) * (index % std::size_t{size_}), sizeof(descriptor));
    return descriptor;
  }
  static std::uint16_t get(const std::byte* at) {
    std::uint16_t value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  static void put(std::byte* at, std::uint16_t value) { std::memcpy(at, &value, sizeof(value)); }

  std::byte* const descriptors_;
  std::byte* const avail_;
  std::byte* const used_;
  const std::uint16_t size_;
  std::uint16_t taken_ = 0;
  std::uint16_t index_ = 0;
};

class PackedDevice final : public RingDevice {
 public:
  PackedDevice(std::byte* memory, std::uint16_t size, const virtio::PackedLayout& layout)
      : descriptors_(memory), wish_(memory + layout.device), size_(size), counts_(size, 1) {}

  std::optional<std::uint16_t> take() override {
    packed::Descriptor descriptor{};
    std::uint16_t count = 0;
    std::uint16_t at = next_;
    bool wrap = wrap_;
    Chain chain;
    do {
      descriptor = get(at);
      if (((descriptor.flags & packed::kDescAvail) != 0) != wrap ||
          ((descriptor.flags & packed::kDescUsed) != 0) == wrap)
        return std::nullopt;
      if (count++ == 0) {
        chain = {.first = descriptor.addr};
        if ((descriptor.flags & packed::kDescIndirect) != 0) chain.table_bytes = descriptor.len;
      }
      chain.last = descriptor.addr;
      step(at, wrap, 1);
    } while ((descriptor.flags & packed::kDescNext) != 0 && count < size_);
    next_ = at;
    wrap_ = wrap;
    chain_ = chain;
    if (descriptor.id < size_) counts_[descriptor.id] = count;
    return descriptor.id;
  }
  void use(std::uint32_t id, std::uint32_t length) override {
    packed::Descriptor descriptor = get(used_);
    descriptor.id = static_cast<std::uint16_t>(id);
    descriptor.len = length;
    descriptor.flags = used_wrap_ ? packed::kDescAvail | packed::kDescUsed : 0;
    std::memcpy(descriptors_ + sizeof(descriptor) * used_, &descriptor, sizeof(descriptor));
    step(used_, used_wrap_, descriptor.id < size_ ? counts_[descriptor.id] : std::uint16_t{1});
  }
  void jump(std::uint16_t to) override {
    used_ = static_cast<std::uint16_t>((to & 0x7fffU) % size_);
    used_wrap_ = (to & 0x8000U) != 0;
  }
  void wish(std::uint16_t flags, std::uint16_t event) override {
    const packed::EventSuppression wish{.offset_wrap = event, .flags = flags};
    std::memcpy(wish_, &wish, sizeof(wish));
  }

 private:
  packed::Descriptor get(std::uint16_t index) const {
    packed::Descriptor descriptor;
    std::memcpy(&descriptor, descriptors_ + sizeof(descriptor) * index, sizeof(descriptor));
    return descriptor;
  }
  void step(std::uint16_t& index, bool& wrap, std::uint16_t count) const {
    const std::uint32_t next = std::uint32_t{index} + count;
    if (next >= size_) wrap = !wrap;
    index = static_cast<std::uint16_t>(next % size_);
  }

  std::byte* const descriptors_;
  std::byte* const wish_;
  const std::uint16_t size_;
  std::vector<std::uint16_t> counts_;  // descriptors of the chain with an id, as far as it was seen
  std::uint16_t next_ = 0, used_ = 0;
  bool wrap_ = true, used_wrap_ = true;
};

}  // namespace upci::inline UPCI_VARIANT::fuzz
