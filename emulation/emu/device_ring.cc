// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/device_ring.h"

#include <fmt/format.h>

#include <cstring>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace ring = virtio::spec::ring;

/// A 16-bit field that both sides touch. The caller has checked range and alignment.
platform::Atomic<std::uint16_t>& shared16(std::byte* at) noexcept {
  static_assert(sizeof(platform::Atomic<std::uint16_t>) == 2);
  return *static_cast<platform::Atomic<std::uint16_t>*>(static_cast<void*>(at));
}

}  // namespace

void DeviceRing::start(const Layout& layout) noexcept {
  layout_ = layout;
  last_avail_ = used_ = published_ = signalled_ = 0;
}

std::optional<std::uint16_t> DeviceRing::avail_index(const DmaAccess& dma) const noexcept {
  std::byte* const avail = dma.at(layout_.avail, ring::avail_bytes(layout_.size), ring::kAvailAlign);
  if (avail == nullptr) return std::nullopt;
  return shared16(avail + ring::kIndexOffset).load(std::memory_order_acquire);
}

DeviceRing::Pop DeviceRing::pop(const DmaAccess& dma, Chain& chain, std::string& why) {
  std::byte* const avail = dma.at(layout_.avail, ring::avail_bytes(layout_.size), ring::kAvailAlign);
  if (avail == nullptr) {
    why = "the available ring: " + dma.why_not(layout_.avail, ring::avail_bytes(layout_.size));
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

bool DeviceRing::walk(const DmaAccess& dma, std::uint16_t head, Chain& chain, std::string& why) const {
  chain.head = head;
  chain.readable.clear();
  chain.writable.clear();
  chain.readable_bytes = chain.writable_bytes = 0;

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
    if (dma.at(desc.addr, desc.len) == nullptr) {
      why = fmt::format("the buffer of descriptor {}: {}", next, dma.why_not(desc.addr, desc.len));
      return false;
    }
    if ((desc.flags & ring::kDescWrite) != 0) {
      chain.writable.push_back({desc.addr, desc.len});
      chain.writable_bytes += desc.len;
    } else if (!chain.writable.empty()) {
      // Section "Message Framing": "The driver MUST place any device-writable descriptor elements after any
      // device-readable descriptor elements."
      why = "a device-readable descriptor follows a device-writable one";
      return false;
    } else {
      chain.readable.push_back({desc.addr, desc.len});
      chain.readable_bytes += desc.len;
    }
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

bool DeviceRing::write_used(const DmaAccess& dma, std::uint16_t place, std::uint32_t id, std::uint32_t len) noexcept {
  std::byte* const used = dma.at(layout_.used, ring::used_bytes(layout_.size), ring::kUsedAlign);
  if (used == nullptr) return false;
  const ring::UsedElement element{.id = id, .len = len};
  std::memcpy(used + ring::kRingOffset + sizeof(element) * (place & (layout_.size - 1U)), &element, sizeof(element));
  return true;
}

bool DeviceRing::push(const DmaAccess& dma, std::uint32_t id, std::uint32_t len) noexcept {
  if (!write_used(dma, used_, id, len)) return false;
  ++used_;
  return true;
}

bool DeviceRing::push_in_batch(const DmaAccess& dma, std::uint32_t id) noexcept {
  if (!write_used(dma, published_, id, 0)) return false;
  ++used_;
  return true;
}

bool DeviceRing::publish(const DmaAccess& dma, std::uint16_t extra) noexcept {
  std::byte* const used = dma.at(layout_.used, ring::used_bytes(layout_.size), ring::kUsedAlign);
  if (used == nullptr) return false;
  published_ = static_cast<std::uint16_t>(used_ + extra);
  // Release pairs with the driver's acquire of the index: it sees the elements and the buffers' contents. Section
  // "Device Requirements: The Virtqueue Used Ring": "The device MUST set len prior to updating the used idx."
  shared16(used + ring::kIndexOffset).store(published_, std::memory_order_release);
  return true;
}

bool DeviceRing::wants_interrupt(const DmaAccess& dma) noexcept {
  std::byte* const avail = dma.at(layout_.avail, ring::avail_bytes(layout_.size), ring::kAvailAlign);
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

bool DeviceRing::set_notifications(const DmaAccess& dma, bool wanted) noexcept {
  std::byte* const used = dma.at(layout_.used, ring::used_bytes(layout_.size), ring::kUsedAlign);
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
