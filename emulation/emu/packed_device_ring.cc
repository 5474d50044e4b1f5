// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/packed_device_ring.h"

#include <fmt/format.h>

#include <cstring>

#include "emulation/emu/shared_field.h"
#include "virtio/spec/packed_ring.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace packed = virtio::spec::packed;

std::byte* descriptor(std::byte* table, std::uint16_t index) noexcept {
  return table + sizeof(packed::Descriptor) * std::size_t{index};
}

platform::Atomic<std::uint16_t>& flags_of(std::byte* table, std::uint16_t index) noexcept {
  return shared16(descriptor(table, index) + packed::kDescFlagsOffset);
}

void write_used(std::byte* table, std::uint16_t index, std::uint16_t id, std::uint32_t len) noexcept {
  std::byte* const at = descriptor(table, index);
  std::memcpy(at + packed::kLengthOffset, &len, sizeof len);
  std::memcpy(at + packed::kIdOffset, &id, sizeof id);
}

}  // namespace

PackedDeviceRing::Place PackedDeviceRing::after(Place place, std::uint16_t count) const noexcept {
  const std::uint32_t index = std::uint32_t{place.index} + count;
  if (index < layout_.size) return {.index = static_cast<std::uint16_t>(index), .wrap = place.wrap};
  return {.index = static_cast<std::uint16_t>(index - layout_.size), .wrap = !place.wrap};
}

std::uint16_t PackedDeviceRing::position() const noexcept { return packed::offset_wrap(next_.index, next_.wrap); }

void PackedDeviceRing::rewind(std::uint16_t position) noexcept {
  next_ = {.index = static_cast<std::uint16_t>(position & 0x7fffU), .wrap = (position >> 15) != 0};
}

std::optional<std::uint16_t> PackedDeviceRing::driver_position(const DmaAccess& dma) const noexcept {
  std::byte* const table = memory(dma, table_);
  if (table == nullptr) return std::nullopt;
  Place at = next_;
  for (std::uint16_t looked = 0; looked < layout_.size; ++looked) {
    if (!packed::is_available(flags_of(table, at.index).load(std::memory_order_acquire), at.wrap)) break;
    at = after(at, 1);
  }
  return packed::offset_wrap(at.index, at.wrap);
}

DeviceRing::Pop PackedDeviceRing::pop(const DmaAccess& dma, Chain& chain, std::string& why) {
  std::byte* const table = memory(dma, table_);
  if (table == nullptr) {
    why = "the descriptor ring: " + dma.why_not(table_.iova, table_.bytes);
    return Pop::kBroken;
  }
  // Acquire pairs with the driver's release of the first descriptor's flags: the whole chain is seen. Section "Driver
  // Requirements: Updating flags".
  if (!packed::is_available(flags_of(table, next_.index).load(std::memory_order_acquire), next_.wrap))
    return Pop::kEmpty;
  return walk(dma, table, chain, why) ? Pop::kChain : Pop::kBroken;
}

bool PackedDeviceRing::walk(const DmaAccess& dma, std::byte* table, Chain& chain, std::string& why) {
  chain.clear();
  Place at = next_;
  for (std::uint16_t walked = 1;; ++walked) {
    packed::Descriptor desc;
    std::memcpy(&desc, descriptor(table, at.index), sizeof desc);
    if (!packed::is_available(desc.flags, at.wrap)) {
      why = fmt::format("a chain goes on at descriptor {}, which is not available", at.index);
      return false;
    }
    const bool last = (desc.flags & packed::kDescNext) == 0;
    if ((desc.flags & packed::kDescIndirect) != 0) {
      // Section "Indirect Flag: Scatter-Gather Support": not without the feature, not together with NEXT.
      if (!layout_.indirect || !last) {
        why = "an indirect descriptor where none may be";
        return false;
      }
      if (!walk_table(dma, desc.addr, desc.len, chain, why)) return false;
    } else if (!chain.take(dma, {desc.addr, desc.len}, (desc.flags & packed::kDescWrite) != 0, at.index, why)) {
      return false;
    }
    at = after(at, 1);
    if (last) {
      // Section "Next Flag: Descriptor Chaining": the buffer id is that of the last one.
      chain.id = {.id = desc.id, .descriptors = walked};
      next_ = at;
      return true;
    }
    if (walked == layout_.size) {
      why = "a descriptor chain is longer than its ring";
      return false;
    }
  }
}

/// The entries follow each other, and of their flags only WRITE means something.
bool PackedDeviceRing::walk_table(const DmaAccess& dma, std::uint64_t iova, std::uint32_t bytes, Chain& chain,
                                  std::string& why) const {
  const std::uint32_t entries = bytes / sizeof(packed::Descriptor);
  // Section "Driver Requirements: Scatter-Gather Support": no longer than the ring.
  if (bytes % sizeof(packed::Descriptor) != 0 || entries == 0 || entries > layout_.size) {
    why = fmt::format("an indirect table of {} bytes in a queue of {} descriptors", bytes, layout_.size);
    return false;
  }
  std::byte* const table = dma.at(iova, bytes);
  if (table == nullptr) {
    why = "an indirect table: " + dma.why_not(iova, bytes);
    return false;
  }
  for (std::uint32_t i = 0; i < entries; ++i) {
    packed::Descriptor desc;
    std::memcpy(&desc, descriptor(table, static_cast<std::uint16_t>(i)), sizeof desc);
    if ((desc.flags & packed::kDescIndirect) != 0) {
      why = "an indirect descriptor inside an indirect table";
      return false;
    }
    if (!chain.take(dma, {desc.addr, desc.len}, (desc.flags & packed::kDescWrite) != 0, i, why)) return false;
  }
  return true;
}

bool PackedDeviceRing::push(const DmaAccess& dma, ChainId id, std::uint32_t len) noexcept {
  std::byte* const table = memory(dma, table_);
  if (table == nullptr) return false;
  write_used(table, used_.index, id.id, len);
  // Section "Write Flag": in a used descriptor it says that the device has written something.
  const auto flags = static_cast<std::uint16_t>(packed::used_marks(used_.wrap) | (len != 0 ? packed::kDescWrite : 0U));
  if (unpublished_ == 0) {
    first_ = used_;
    first_flags_ = flags;
  } else {
    flags_of(table, used_.index).store(flags, std::memory_order_release);
  }
  last_id_ = id.id;
  used_ = after(used_, id.descriptors);
  unpublished_ = static_cast<std::uint16_t>(unpublished_ + id.descriptors);
  return true;
}

bool PackedDeviceRing::push_in_batch(const DmaAccess& dma, ChainId id) noexcept {
  std::byte* const table = memory(dma, table_);
  if (table == nullptr) return false;
  if (unpublished_ == 0) {
    first_ = used_;
    first_flags_ = packed::used_marks(used_.wrap);
  }
  write_used(table, first_.index, id.id, 0);
  last_id_ = id.id;
  used_ = after(used_, id.descriptors);
  unpublished_ = static_cast<std::uint16_t>(unpublished_ + id.descriptors);
  return true;
}

bool PackedDeviceRing::publish(const DmaAccess& dma, bool wrong) noexcept {
  std::byte* const table = memory(dma, table_);
  if (table == nullptr) return false;
  if (unpublished_ == 0) return true;
  // Release pairs with the driver's acquire of the flags: it sees lengths, ids, the flags behind, and the buffers' contents.
  flags_of(table, first_.index).store(first_flags_, std::memory_order_release);
  unsignalled_ += unpublished_;
  unpublished_ = 0;
  if (wrong) {
    // Once more, where nothing was used.
    write_used(table, used_.index, last_id_, 0);
    flags_of(table, used_.index).store(packed::used_marks(used_.wrap), std::memory_order_release);
  }
  return true;
}

bool PackedDeviceRing::wants_interrupt(const DmaAccess& dma) noexcept {
  std::byte* const wish = memory(dma, wish_);
  if (wish == nullptr || unsignalled_ == 0) return false;
  const Place from = signalled_;
  const std::uint32_t count = unsignalled_;
  // What is not published yet comes after it.
  signalled_ = unpublished_ == 0 ? used_ : first_;
  unsignalled_ = 0;
  // Pairs with the driver's fence between asking for interrupts and its last look at the descriptor: either it sees what was
  // used, or this sees its wish.
  platform::fence(std::memory_order_seq_cst);
  const std::uint16_t flags = shared16(wish + packed::kEventFlagsOffset).load(std::memory_order_acquire);
  switch (flags & packed::kEventFlagsMask) {
    case packed::kEventDisable: return false;
    case packed::kEventDescriptor: {
      if (!layout_.event_idx) return true;  // it means nothing, and an interrupt too many harms nobody
      const packed::EventSuppression event{.offset_wrap = shared16(wish).load(std::memory_order_relaxed),
                                           .flags = flags};
      return packed::ahead_of(from.index, from.wrap, event, layout_.size) < count;
    }
    default: return true;
  }
}

bool PackedDeviceRing::set_notifications(const DmaAccess& dma, bool wanted) noexcept {
  std::byte* const wish = memory(dma, own_wish_);
  if (wish == nullptr) return false;
  std::uint16_t flags = packed::kEventDisable;
  if (wanted) {
    flags = layout_.event_idx ? packed::kEventDescriptor : packed::kEventEnable;
    shared16(wish).store(layout_.event_idx ? position() : std::uint16_t{0}, std::memory_order_relaxed);
  }
  shared16(wish + packed::kEventFlagsOffset).store(flags, std::memory_order_release);
  // Pairs with the driver's fence between a descriptor's flags and its look at this: either it notifies, or the next look at the
  // descriptor sees them.
  platform::fence(std::memory_order_seq_cst);
  return true;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
