// SPDX-License-Identifier: Apache-2.0
#include "virtio/packed_lint.h"

#include <algorithm>

#include "base/log.h"

namespace upci::inline UPCI_VARIANT::virtio {

namespace packed = spec::packed;

std::string_view to_string(PackedClause clause) noexcept {
  switch (clause) {
    case PackedClause::kOutOfRange: return "a descriptor or an id beyond the ring";
    case PackedClause::kDescriptorInFlight: return "changed a descriptor in flight";
    case PackedClause::kOutOfTurn: return "published a descriptor out of turn";
    case PackedClause::kMarksWrong: return "AVAIL and USED are not the wrap counter's";
    case PackedClause::kIdInFlight: return "gave an id twice";
    case PackedClause::kIdChanges: return "the id changes within a chain";
    case PackedClause::kWritableFirst: return "a segment to read follows one to write";
    case PackedClause::kTableInFlight: return "changed an indirect table in flight";
    case PackedClause::kTableMalformed: return "an indirect table that may not be so";
    case PackedClause::kChainUnended: return "published a chain without its end";
    case PackedClause::kEventFlags: return "event flags that were not negotiated";
    case PackedClause::kIndirectUnasked: return "an indirect table without INDIRECT_DESC";
    case PackedClause::kIndirectInChain: return "an indirect table in a chain of several";
    case PackedClause::kChainTooLong: return "a chain that is too long";
  }
  return "unknown";
}

PackedLint::PackedLint(std::uint16_t size, const RingOptions& options)
    : size_(size),
      options_(options),
      descriptors_(size),
      tables_(size),
      written_(size),
      table_in_flight_(size),
      chains_(size) {}

void PackedLint::on_restart() {
  descriptors_.assign(size_, {});
  tables_.assign(size_, {});
  written_.assign(size_, false);
  table_in_flight_.assign(size_, false);
  chains_.assign(size_, {});
  order_.clear();
  next_ = outstanding_ = unpublished_ = 0;
  wrap_ = true;
  if (sink_) sink_->on_restart();
}

// One writer, so that a plain load and store are enough.
void PackedLint::count_access() noexcept {
  accesses_.store(accesses_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void PackedLint::breach(PackedClause clause) noexcept {
  auto& counter = by_clause_[static_cast<std::size_t>(clause)];
  const std::uint64_t before = counter.load(std::memory_order_relaxed);
  // One of a kind is enough to know what to look for.
  if (before == 0) log::warn("the driver breaks the specification in a ring: {}", to_string(clause));
  counter.store(before + 1, std::memory_order_relaxed);
  violations_.store(violations_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void PackedLint::on_write_body(std::uint16_t index, std::uint64_t addr, std::uint32_t len, std::uint16_t id) {
  count_access();
  if (index >= size_ || id >= size_) return breach(PackedClause::kOutOfRange);
  // In any order until they are published, but not into what the device has.
  const auto ahead = static_cast<std::uint16_t>((std::uint32_t{index} + size_ - next_) % size_);
  if (ahead + outstanding_ >= size_) return breach(PackedClause::kDescriptorInFlight);
  descriptors_[index] = {
      .addr = addr, .len = len, .id = id, .flags = packed::available_marks(index >= next_ ? wrap_ : !wrap_)};
  if (!written_[index]) ++unpublished_;
  written_[index] = true;
}

void PackedLint::on_write_flags(std::uint16_t index, std::uint16_t flags, bool published) {
  count_access();
  if (index >= size_) return breach(PackedClause::kOutOfRange);
  // Only what was written since the last publication.
  if (!written_[index]) return breach(PackedClause::kDescriptorInFlight);
  constexpr std::uint16_t kMarks = packed::kDescAvail | packed::kDescUsed;
  const auto expected = static_cast<std::uint16_t>(descriptors_[index].flags & kMarks);
  if ((flags & kMarks) != expected) breach(PackedClause::kMarksWrong);
  descriptors_[index].flags = flags;
  if (published) publish(index);
}

void PackedLint::on_write_table_entry(std::uint16_t table, std::uint16_t position, const packed::Descriptor& value) {
  count_access();
  if (table >= size_) return breach(PackedClause::kOutOfRange);
  if (table_in_flight_[table]) breach(PackedClause::kTableInFlight);
  if (position >= tables_[table].size()) tables_[table].resize(position + 1U);
  tables_[table][position] = value;
}

/// `index` is visible, and with it what follows.
void PackedLint::publish(std::uint16_t index) noexcept {
  if (index != next_) return breach(PackedClause::kOutOfTurn);
  bool writable = false;
  std::uint16_t length = 0;  // of the chain so far
  std::uint16_t first = index;
  for (; unpublished_ != 0; --unpublished_) {
    index = next_;
    if (!written_[index]) return breach(PackedClause::kOutOfTurn);
    written_[index] = false;
    if (++next_ == size_) {
      next_ = 0;
      wrap_ = !wrap_;
    }
    const packed::Descriptor& descriptor = descriptors_[index];
    if (length == 0) {
      first = index;
      writable = false;
      chain_.clear();
      if (chains_[descriptor.id].count != 0) breach(PackedClause::kIdInFlight);
    } else if (descriptor.id != descriptors_[first].id) {
      breach(PackedClause::kIdChanges);
    }
    ++length;
    ++outstanding_;
    if ((descriptor.flags & packed::kDescIndirect) != 0) {
      if (length > 1 || (descriptor.flags & packed::kDescNext) != 0) breach(PackedClause::kIndirectInChain);
      check_table(index);
    } else {
      if ((descriptor.flags & packed::kDescWrite) != 0) {
        writable = true;
      } else if (writable) {
        breach(PackedClause::kWritableFirst);
      }
      take_segment(descriptor);
    }
    if ((descriptor.flags & packed::kDescNext) == 0) {
      if (sink_) sink_->on_chain(chain_);
      chains_[descriptor.id] = {.count = length};
      order_.push_back(descriptor.id);
      length = 0;
    }
  }
  if (length != 0) breach(PackedClause::kChainUnended);
}

/// Section "Indirect Flag: Scatter-Gather Support".
void PackedLint::check_table(std::uint16_t index) noexcept {
  const packed::Descriptor& descriptor = descriptors_[index];
  const std::vector<packed::Descriptor>& table = tables_[descriptor.id];
  table_in_flight_[descriptor.id] = true;
  const std::size_t entries = descriptor.len / sizeof(packed::Descriptor);
  if (!options_.indirect) breach(PackedClause::kIndirectUnasked);
  if (entries > size_) breach(PackedClause::kChainTooLong);
  if (entries == 0 || entries > table.size() || descriptor.len % sizeof(packed::Descriptor) != 0) {
    return breach(PackedClause::kTableMalformed);
  }
  bool writable = false;
  for (std::size_t i = 0; i < entries; ++i) {
    if ((table[i].flags & ~packed::kDescWrite) != 0) breach(PackedClause::kTableMalformed);
    if ((table[i].flags & packed::kDescWrite) != 0) {
      writable = true;
    } else if (writable) {
      breach(PackedClause::kWritableFirst);
    }
    take_segment(table[i]);
  }
}

void PackedLint::take_segment(const packed::Descriptor& descriptor) noexcept {
  if (!sink_) return;
  chain_.push_back(
      {.iova = descriptor.addr, .len = descriptor.len, .device_writes = (descriptor.flags & packed::kDescWrite) != 0});
}

void PackedLint::on_write_driver_event(const packed::EventSuppression& event) {
  count_access();
  const bool descriptor = event.flags == packed::kEventDescriptor;
  if (event.flags > packed::kEventDescriptor || (descriptor && !options_.event_idx) ||
      (descriptor && (event.offset_wrap & 0x7fffU) >= size_)) {
    breach(PackedClause::kEventFlags);
  }
}

packed::EventSuppression PackedLint::on_read_device_event(packed::EventSuppression event) {
  count_access();
  return event;
}

std::uint16_t PackedLint::on_read_flags(std::uint16_t, std::uint16_t flags) {
  count_access();
  return flags;
}

// What the device may say wrongly here is the ring's to find.
spec::ring::UsedElement PackedLint::on_read_used(std::uint16_t, spec::ring::UsedElement element) {
  count_access();
  const auto id = static_cast<std::uint16_t>(element.id);
  if (element.id >= size_ || chains_[id].count == 0) return element;
  const auto found = std::ranges::find(order_, id);
  if (options_.in_order) {
    std::for_each(order_.begin(), found, [this](std::uint16_t before) { give_back(before); });
    order_.erase(order_.begin(), found);
  }
  order_.erase(std::ranges::find(order_, id));
  give_back(id);
  return element;
}

void PackedLint::give_back(std::uint16_t id) noexcept {
  Chain& chain = chains_[id];
  outstanding_ = static_cast<std::uint16_t>(outstanding_ - chain.count);
  table_in_flight_[id] = false;
  chain.count = 0;
}

}  // namespace upci::inline UPCI_VARIANT::virtio
