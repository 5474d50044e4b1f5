// SPDX-License-Identifier: Apache-2.0
#include "virtio/ring_lint.h"

#include "base/log.h"

namespace upci::inline UPCI_VARIANT::virtio {

std::string_view to_string(RingClause clause) noexcept {
  switch (clause) {
    case RingClause::kDescriptorInFlight: return "changed a descriptor in flight";
    case RingClause::kDescriptorLoop: return "a chain loops or leaves the table";
    case RingClause::kWritableFirst: return "a segment to read follows one to write";
    case RingClause::kHeadOutOfRange: return "an available entry is no descriptor";
    case RingClause::kHeadInFlight: return "made a chain available twice";
    case RingClause::kIndexJump: return "the available index jumped";
    case RingClause::kIndexUnwritten: return "published an entry that was not written";
    case RingClause::kEntryInFlight: return "overwrote an available entry in flight";
    case RingClause::kTableInFlight: return "changed an indirect table in flight";
    case RingClause::kTableMalformed: return "an indirect table that may not be so";
    case RingClause::kFlagsWithEventIdx: return "flags in use with EVENT_IDX";
    case RingClause::kFlagsReserved: return "reserved flags of the available ring";
    case RingClause::kIndirectUnasked: return "an indirect table without INDIRECT_DESC";
    case RingClause::kChainTooLong: return "a chain that is too long";
    case RingClause::kOutOfSequence: return "descriptors out of sequence with IN_ORDER";
  }
  return "unknown";
}

RingLint::RingLint(std::uint16_t size, const RingOptions& options)
    : size_(size), options_(options), descriptors_(size), tables_(size), entries_(size), owner_(size, 0) {}

void RingLint::on_restart() {
  descriptors_.assign(size_, {});
  tables_.assign(size_, {});
  entries_.assign(size_, 0);
  owner_.assign(size_, 0);
  written_ = published_ = done_ = in_flight_ = 0;
  if (sink_) sink_->on_restart();
}

// One writer, so that a plain load and store are enough, and cheaper than a read-modify-write.
void RingLint::count_access() noexcept {
  accesses_.store(accesses_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void RingLint::breach(RingClause clause) noexcept {
  auto& counter = by_clause_[static_cast<std::size_t>(clause)];
  const std::uint64_t before = counter.load(std::memory_order_relaxed);
  // One of a kind is enough to know what to look for.
  if (before == 0) log::warn("the driver breaks the specification in a ring: {}", to_string(clause));
  counter.store(before + 1, std::memory_order_relaxed);
  violations_.store(violations_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void RingLint::on_write_descriptor(std::uint16_t index, const spec::ring::Descriptor& value) {
  count_access();
  if (index >= size_) return breach(RingClause::kDescriptorLoop);
  if (owner_[index] != 0) breach(RingClause::kDescriptorInFlight);
  descriptors_[index] = value;
}

void RingLint::on_write_table_entry(std::uint16_t head, std::uint16_t position, const spec::ring::Descriptor& value) {
  count_access();
  if (head >= size_) return breach(RingClause::kDescriptorLoop);
  if (owner_[head] != 0) breach(RingClause::kTableInFlight);
  std::vector<spec::ring::Descriptor>& table = tables_[head];
  if (position >= table.size()) table.resize(position + 1U);
  table[position] = value;
}

void RingLint::on_write_avail_entry(std::uint16_t index, std::uint16_t head) {
  count_access();
  if (head >= size_) return breach(RingClause::kHeadOutOfRange);
  if (index != written_) return breach(RingClause::kIndexUnwritten);
  const auto unpublished = static_cast<std::uint16_t>(written_ - published_);
  if (in_flight_ + unpublished >= size_) breach(RingClause::kEntryInFlight);
  entries_[index & (size_ - 1)] = head;
  ++written_;
}

void RingLint::on_keep_avail_entry(std::uint16_t index, std::uint16_t head) {
  if (head >= size_ || entries_[index & (size_ - 1)] != head) return breach(RingClause::kIndexUnwritten);
  on_write_avail_entry(index, head);
}

void RingLint::on_publish_avail_index(std::uint16_t index) {
  count_access();
  const auto ahead = static_cast<std::uint16_t>(index - published_);
  const auto unpublished = static_cast<std::uint16_t>(written_ - published_);
  if (ahead > unpublished) {
    // Section "Updating idx": "The driver MUST NOT decrement the available idx on a virtqueue".
    breach(ahead > size_ ? RingClause::kIndexJump : RingClause::kIndexUnwritten);
    return;
  }
  for (; published_ != index; ++published_) take_chain(entries_[published_ & (size_ - 1)]);
}

void RingLint::take_chain(std::uint16_t head) noexcept {
  if (owner_[head] != 0) return breach(RingClause::kHeadInFlight);
  ++in_flight_;
  if (sink_) chain_.clear();
  std::uint16_t index = head;
  bool writable = false;
  std::uint64_t bytes = 0;
  for (std::uint32_t steps = 0;; ++steps) {
    if (steps == size_ || index >= size_ || owner_[index] != 0) return breach(RingClause::kDescriptorLoop);
    owner_[index] = static_cast<std::uint16_t>(head + 1);
    const spec::ring::Descriptor& descriptor = descriptors_[index];
    if ((descriptor.flags & spec::ring::kDescIndirect) != 0) return check_table(index);
    if ((descriptor.flags & spec::ring::kDescWrite) != 0) {
      writable = true;
    } else if (writable) {
      breach(RingClause::kWritableFirst);
    }
    bytes = take_segment(descriptor, bytes);
    if ((descriptor.flags & spec::ring::kDescNext) == 0) return take_whole();
    if (options_.in_order && descriptor.next != (index + 1U == size_ ? 0U : index + 1U)) {
      breach(RingClause::kOutOfSequence);
    }
    index = descriptor.next;
  }
}

/// Returns the bytes of the chain so far. Section "The Virtqueue Descriptor Table": at most 2^32.
std::uint64_t RingLint::take_segment(const spec::ring::Descriptor& descriptor, std::uint64_t before) noexcept {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 32;
  const std::uint64_t bytes = before + descriptor.len;
  if (before <= kMost && bytes > kMost) breach(RingClause::kChainTooLong);
  if (sink_) {
    chain_.push_back({.iova = descriptor.addr,
                      .len = descriptor.len,
                      .device_writes = (descriptor.flags & spec::ring::kDescWrite) != 0});
  }
  return bytes;
}

void RingLint::take_whole() noexcept {
  if (sink_) sink_->on_chain(chain_);
}

/// Section "Indirect Descriptors": no NEXT beside INDIRECT, no table within a table, no chain out of the table.
void RingLint::check_table(std::uint16_t head) noexcept {
  const spec::ring::Descriptor& descriptor = descriptors_[head];
  const std::vector<spec::ring::Descriptor>& table = tables_[head];
  const std::size_t entries = descriptor.len / sizeof(spec::ring::Descriptor);
  if (!options_.indirect) breach(RingClause::kIndirectUnasked);
  if (entries > size_) breach(RingClause::kChainTooLong);
  if ((descriptor.flags & spec::ring::kDescNext) != 0 || entries == 0 || entries > table.size() ||
      descriptor.len % sizeof(spec::ring::Descriptor) != 0) {
    return breach(RingClause::kTableMalformed);
  }
  bool writable = false;
  std::uint64_t bytes = 0;
  std::size_t index = 0;
  for (std::size_t steps = 0;; ++steps) {
    if (steps == entries || index >= entries) return breach(RingClause::kDescriptorLoop);
    if ((table[index].flags & spec::ring::kDescIndirect) != 0) return breach(RingClause::kTableMalformed);
    if ((table[index].flags & spec::ring::kDescWrite) != 0) {
      writable = true;
    } else if (writable) {
      breach(RingClause::kWritableFirst);
    }
    bytes = take_segment(table[index], bytes);
    if ((table[index].flags & spec::ring::kDescNext) == 0) return take_whole();
    if (options_.in_order && table[index].next != index + 1) breach(RingClause::kOutOfSequence);
    index = table[index].next;
  }
}

void RingLint::on_write_avail_flags(std::uint16_t flags) {
  count_access();
  if (options_.event_idx && flags != 0) breach(RingClause::kFlagsWithEventIdx);
  if (flags > 1) breach(RingClause::kFlagsReserved);
}

void RingLint::on_write_used_event(std::uint16_t) { count_access(); }

std::uint16_t RingLint::on_read_avail_event(std::uint16_t event) {
  count_access();
  return event;
}

std::uint16_t RingLint::on_read_used_flags(std::uint16_t flags) {
  count_access();
  return flags;
}

std::uint16_t RingLint::on_read_used_index(std::uint16_t index) {
  count_access();
  return index;
}

// What the device may say wrongly here is the ring's to find.
spec::ring::UsedElement RingLint::on_read_used_element(std::uint16_t, spec::ring::UsedElement element) {
  count_access();
  if (element.id >= size_ || owner_[element.id] != element.id + 1) return element;
  if (!options_.in_order) {
    give_back(element.id);
    return element;
  }
  // With all that came before it.
  for (bool last = false; !last && done_ != published_; ++done_) {
    const std::uint16_t head = entries_[done_ & (size_ - 1)];
    last = head == element.id;
    give_back(head);
  }
  return element;
}

void RingLint::give_back(std::uint32_t head) noexcept {
  std::uint32_t index = head;
  for (std::uint32_t steps = 0; steps < size_ && index < size_ && owner_[index] == head + 1; ++steps) {
    owner_[index] = 0;
    if ((descriptors_[index].flags & spec::ring::kDescNext) == 0) break;
    index = descriptors_[index].next;
  }
  --in_flight_;
}

}  // namespace upci::inline UPCI_VARIANT::virtio
