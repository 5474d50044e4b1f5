// SPDX-License-Identifier: Apache-2.0
// An observer that holds the driver to its own part of the contract. It watches what the driver writes, keeps a copy, and
// counts each breach of a MUST that binds the driver.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/platform.h"
#include "virtio/ring.h"
#include "virtio/ring_access.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// What a driver must not do to a split ring.
enum class RingClause : std::uint8_t {
  kDescriptorInFlight,  // changed a descriptor of a chain that the device may be reading
  kDescriptorLoop,      // a chain that loops or leaves the table (section "The Virtqueue Descriptor Table")
  kWritableFirst,       // a segment that the device reads after one that it writes (the same section)
  kHeadOutOfRange,      // an available entry that is no descriptor
  kHeadInFlight,        // made a chain available that the device has already
  kIndexJump,           // avail idx moved by another amount than the entries written, or backwards
  kIndexUnwritten,      // published an entry that was not written
  kEntryInFlight,       // overwrote an available entry that the device has not used yet
  kTableInFlight,       // changed an indirect table that the device may be reading
  kTableMalformed,      // an indirect descriptor with NEXT, of no whole entries, or a table that refers to another one
  kFlagsWithEventIdx,   // asked for no interrupts by the flags though EVENT_IDX was negotiated
  kFlagsReserved,       // flags of the available ring other than 0 and 1
  kIndirectUnasked,     // an indirect descriptor though INDIRECT_DESC was not negotiated
  kChainTooLong,        // more descriptors than the ring has, or more than 2^32 bytes
  kOutOfSequence,       // IN_ORDER: a chain or a table whose descriptors do not follow each other
};
inline constexpr std::size_t kRingClauses = 15;
std::string_view to_string(RingClause clause) noexcept;

/// One per ring. Hooks: the thread that drives the ring. Counters: any thread.
class RingLint final : public RingObserver {
 public:
  explicit RingLint(std::uint16_t size, const RingOptions& options = {});

  void on_write_descriptor(std::uint16_t index, const spec::ring::Descriptor& value) override;
  void on_write_table_entry(std::uint16_t head, std::uint16_t position, const spec::ring::Descriptor& value) override;
  void on_write_avail_entry(std::uint16_t index, std::uint16_t head) override;
  void on_keep_avail_entry(std::uint16_t index, std::uint16_t head) override;
  void on_publish_avail_index(std::uint16_t index) override;
  void on_write_avail_flags(std::uint16_t flags) override;
  void on_write_used_event(std::uint16_t event) override;
  std::uint16_t on_read_avail_event(std::uint16_t event) override;
  std::uint16_t on_read_used_flags(std::uint16_t flags) override;
  std::uint16_t on_read_used_index(std::uint16_t index) override;
  spec::ring::UsedElement on_read_used_element(std::uint16_t index, spec::ring::UsedElement element) override;

  void on_restart() override;

  /// Shows each chain that is made available to `sink`. Before the ring is used.
  void set_sink(std::shared_ptr<ChainSink> sink) { sink_ = std::move(sink); }

  std::uint64_t accesses() const noexcept override { return accesses_.load(std::memory_order_relaxed); }
  std::uint64_t violations() const noexcept override { return violations_.load(std::memory_order_relaxed); }
  std::uint64_t violations(RingClause clause) const noexcept {
    return by_clause_[static_cast<std::size_t>(clause)].load(std::memory_order_relaxed);
  }

 private:
  void breach(RingClause clause) noexcept;
  void count_access() noexcept;
  /// Checks the chain at `head` and marks it as in flight.
  void take_chain(std::uint16_t head) noexcept;
  void check_table(std::uint16_t head) noexcept;
  std::uint64_t take_segment(const spec::ring::Descriptor& descriptor, std::uint64_t before) noexcept;
  void take_whole() noexcept;
  /// The chain at `head` is the driver's again.
  void give_back(std::uint32_t head) noexcept;

  const std::uint16_t size_;
  const RingOptions options_;
  std::shared_ptr<ChainSink> sink_;  // null: nobody looks into the buffers
  // The driving thread only:
  std::vector<Segment> chain_;                               // the one that is being taken, for the sink
  std::vector<spec::ring::Descriptor> descriptors_;          // as the driver wrote them
  std::vector<std::vector<spec::ring::Descriptor>> tables_;  // indirect ones, per descriptor
  std::vector<std::uint16_t> entries_;  // of the available ring, as the driver wrote them; 0 at first
  std::vector<std::uint16_t> owner_;    // per descriptor: 1 + head of the chain in flight, or 0
  std::uint16_t written_ = 0;           // available entries written
  std::uint16_t published_ = 0;         // avail idx
  std::uint16_t done_ = 0;              // IN_ORDER: available entries that the device has used
  std::uint16_t in_flight_ = 0;         // chains
  // Written by the driving thread, read by any:
  platform::Atomic<std::uint64_t> accesses_{0};
  platform::Atomic<std::uint64_t> violations_{0};
  std::array<platform::Atomic<std::uint64_t>, kRingClauses> by_clause_{};
};

}  // namespace upci::inline UPCI_VARIANT::virtio
