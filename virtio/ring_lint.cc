// SPDX-License-Identifier: Apache-2.0
#include "virtio/ring_lint.h"

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
  }
  return "unknown";
}

RingLint::RingLint(std::uint16_t size) : size_(size), descriptors_(size), entries_(size), owner_(size, 0) {}

// One writer, so that a plain load and store are enough, and cheaper than a read-modify-write.
void RingLint::count_access() noexcept {
  accesses_.store(accesses_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void RingLint::breach(RingClause clause) noexcept {
  auto& counter = by_clause_[static_cast<std::size_t>(clause)];
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  violations_.store(violations_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void RingLint::on_write_descriptor(std::uint16_t index, const spec::ring::Descriptor& value) {
  count_access();
  if (index >= size_) return breach(RingClause::kDescriptorLoop);
  if (owner_[index] != 0) breach(RingClause::kDescriptorInFlight);
  descriptors_[index] = value;
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
  std::uint16_t index = head;
  bool writable = false;
  for (std::uint32_t steps = 0;; ++steps) {
    if (steps == size_ || index >= size_ || owner_[index] != 0) return breach(RingClause::kDescriptorLoop);
    owner_[index] = static_cast<std::uint16_t>(head + 1);
    const spec::ring::Descriptor& descriptor = descriptors_[index];
    if ((descriptor.flags & spec::ring::kDescWrite) != 0) {
      writable = true;
    } else if (writable) {
      breach(RingClause::kWritableFirst);
    }
    if ((descriptor.flags & spec::ring::kDescNext) == 0) return;
    index = descriptor.next;
  }
}

void RingLint::on_write_avail_flags(std::uint16_t) { count_access(); }

std::uint16_t RingLint::on_read_used_flags(std::uint16_t flags) {
  count_access();
  return flags;
}

std::uint16_t RingLint::on_read_used_index(std::uint16_t index) {
  count_access();
  return index;
}

spec::ring::UsedElement RingLint::on_read_used_element(std::uint16_t, spec::ring::UsedElement element) {
  count_access();
  // The chain is the driver's again. What the device may say wrongly here is the ring's to find.
  if (element.id < size_ && owner_[element.id] == element.id + 1) {
    std::uint32_t index = element.id;
    for (std::uint32_t steps = 0; steps < size_ && index < size_ && owner_[index] == element.id + 1; ++steps) {
      owner_[index] = 0;
      if ((descriptors_[index].flags & spec::ring::kDescNext) == 0) break;
      index = descriptors_[index].next;
    }
    --in_flight_;
  }
  return element;
}

}  // namespace upci::inline UPCI_VARIANT::virtio
