// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/split_device_ring.h"

#include <fmt/format.h>

#include <cstring>

#include "emulation/emu/shared_field.h"
#include "virtio/spec/ring.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace ring = virtio::spec::ring;

}  // namespace

std::optional<std::uint16_t> SplitDeviceRing::driver_position(const DmaAccess& dma) const noexcept {
  std::byte* const avail = memory(dma, avail_area_);
  if (avail == nullptr) return std::nullopt;
  return shared16(avail + ring::kIndexOffset).load(std::memory_order_acquire);
}

SplitDeviceRing::Pop SplitDeviceRing::pop(const DmaAccess& dma, Chain& chain, std::string& why) {
  std::byte* const avail = memory(dma, avail_area_);
  if (avail == nullptr) {
    why = "the available ring: " + dma.why_not(avail_area_.iova, avail_area_.bytes);
    return Pop::kBroken;
  }
  // Acquire pairs with the driver's release of the index: the entries and descriptors before it are seen.
  const std::uint16_t index = shared16(avail + ring::kIndexOffset).load(std::memory_order_acquire);
  const std::uint16_t waiting = static_cast<std::uint16_t>(index - last_avail_);
  if (waiting == 0) return Pop::kEmpty;
  if (waiting > layout_.size) {
    why = fmt::format("avail idx went from {} to {} in a queue of {}", last_avail_, index, layout_.size);
    return Pop::kBroken;
  }
  std::uint16_t head = 0;
  std::memcpy(&head, avail + ring::kRingOffset + 2 * std::size_t{last_avail_ & (layout_.size - 1U)}, sizeof(head));
  if (head >= layout_.size) {
    why = fmt::format("the available ring names descriptor {} in a queue of {}", head, layout_.size);
    return Pop::kBroken;
  }
  if (!walk(dma, head, chain, why)) return Pop::kBroken;
  ++last_avail_;
  return Pop::kChain;
}

bool SplitDeviceRing::walk(const DmaAccess& dma, std::uint16_t head, Chain& chain, std::string& why) const {
  chain.clear();
  chain.id.id = head;

  std::uint64_t table_iova = layout_.descriptors;
  std::uint32_t entries = layout_.size;
  std::byte* table = dma.at(table_iova, ring::descriptors_bytes(entries), ring::kDescriptorAlign);
  bool in_indirect = false;
  std::uint32_t next = head;
  std::uint32_t walked = 0;
  for (;;) {
    if (table == nullptr) {
      why = "the descriptor table: " + dma.why_not(table_iova, ring::descriptors_bytes(entries));
      return false;
    }
    if (next >= entries) {
      why = fmt::format("a chain goes on at descriptor {} of {}", next, entries);
      return false;
    }
    if (walked++ == entries) {
      why = "a descriptor chain is a loop";
      return false;
    }
    ring::Descriptor desc;
    std::memcpy(&desc, table + sizeof(desc) * next, sizeof(desc));
    if ((desc.flags & ring::kDescIndirect) != 0) {
      // Section "Indirect Descriptors": not without the feature, not inside an indirect table, not together with NEXT.
      if (!layout_.indirect || in_indirect || (desc.flags & ring::kDescNext) != 0 || desc.len == 0 ||
          desc.len % sizeof(desc) != 0 || desc.len / sizeof(desc) > ring::kMaxSize) {
        why = "an indirect descriptor where none may be, or of a size that it cannot have";
        return false;
      }
      table_iova = desc.addr;
      entries = static_cast<std::uint32_t>(desc.len / sizeof(desc));
      table = dma.at(table_iova, desc.len);
      in_indirect = true;
      next = 0;
      walked = 0;
      continue;
    }
    if (!chain.take(dma, {desc.addr, desc.len}, (desc.flags & ring::kDescWrite) != 0, next, why)) return false;
    if ((desc.flags & ring::kDescNext) == 0) return true;
    // Section "Driver Requirements: The Virtqueue Descriptor Table": with IN_ORDER the next one is the neighbour, which of the last
    // one is the first; the same in an indirect table, which has no neighbour of the last.
    if (layout_.in_order && desc.next != next + 1 && (in_indirect || next + 1 != entries || desc.next != 0)) {
      why = fmt::format("with IN_ORDER a chain goes on at descriptor {} after {}", desc.next, next);
      return false;
    }
    next = desc.next;
  }
}

bool SplitDeviceRing::write_used(const DmaAccess& dma, std::uint16_t place, std::uint32_t id,
                                 std::uint32_t len) noexcept {
  std::byte* const used = memory(dma, used_area_);
  if (used == nullptr) return false;
  const ring::UsedElement element{.id = id, .len = len};
  std::memcpy(used + ring::kRingOffset + sizeof(element) * (place & (layout_.size - 1U)), &element, sizeof(element));
  return true;
}

bool SplitDeviceRing::push(const DmaAccess& dma, ChainId id, std::uint32_t len) noexcept {
  if (!write_used(dma, used_, id.id, len)) return false;
  ++used_;
  return true;
}

bool SplitDeviceRing::push_in_batch(const DmaAccess& dma, ChainId id) noexcept {
  if (!write_used(dma, published_, id.id, 0)) return false;
  ++used_;
  return true;
}

bool SplitDeviceRing::publish(const DmaAccess& dma, bool wrong) noexcept {
  std::byte* const used = memory(dma, used_area_);
  if (used == nullptr) return false;
  published_ = static_cast<std::uint16_t>(used_ + (wrong ? layout_.size + 1U : 0U));
  // Release pairs with the driver's acquire of the index: it sees the elements and the buffers' contents. Section
  // "Device Requirements: The Virtqueue Used Ring": "The device MUST set len prior to updating the used idx."
  shared16(used + ring::kIndexOffset).store(published_, std::memory_order_release);
  return true;
}

bool SplitDeviceRing::wants_interrupt(const DmaAccess& dma) noexcept {
  std::byte* const avail = memory(dma, avail_area_);
  if (avail == nullptr || published_ == signalled_) return false;
  const std::uint16_t before = signalled_;
  signalled_ = published_;
  // Pairs with the driver's fence between asking for interrupts and its last look at the used index: either it sees the
  // new index, or this sees its wish.
  platform::fence(std::memory_order_seq_cst);
  if (layout_.event_idx) {
    const std::uint16_t event = shared16(avail + ring::used_event_offset(layout_.size)).load(std::memory_order_relaxed);
    return ring::event_reached(event, published_, before);
  }
  const std::uint16_t flags = shared16(avail + ring::kFlagsOffset).load(std::memory_order_relaxed);
  return (flags & ring::kAvailNoInterrupt) == 0;
}

bool SplitDeviceRing::set_notifications(const DmaAccess& dma, bool wanted) noexcept {
  std::byte* const used = memory(dma, used_area_);
  if (used == nullptr) return false;
  if (!layout_.event_idx) {
    shared16(used + ring::kFlagsOffset).store(wanted ? 0 : ring::kUsedNoNotify, std::memory_order_relaxed);
  } else if (wanted) {
    // Without a wish avail_event simply stays behind: the driver's index is past it already.
    shared16(used + ring::avail_event_offset(layout_.size)).store(last_avail_, std::memory_order_relaxed);
  }
  // Pairs with the driver's fence between publishing its index and reading this: either it notifies, or the next look
  // at the available index sees the new entries.
  platform::fence(std::memory_order_seq_cst);
  return true;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
