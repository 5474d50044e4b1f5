// SPDX-License-Identifier: Apache-2.0
// RingLint for packed rings.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/platform.h"
#include "virtio/packed_access.h"
#include "virtio/ring.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// What a driver must not do to a packed ring.
enum class PackedClause : std::uint8_t {
  kOutOfRange,          // a descriptor or an id beyond the ring
  kDescriptorInFlight,  // changed a descriptor that the device may be reading, or has more in flight than there are
  kOutOfTurn,           // published another descriptor than the next one, or a gap
  kMarksWrong,          // AVAIL and USED do not say what the wrap counter is
  kIdInFlight,          // gave a chain an id that another one still has
  kIdChanges,           // another id within a chain
  kWritableFirst,       // a segment that the device reads after one that it writes
  kTableInFlight,       // changed an indirect table that the device may be reading
  kTableMalformed,      // an indirect descriptor of no whole entries, or a table with flags other than WRITE
  kChainUnended,        // published a chain whose last descriptor says that there are more
  kEventFlags,          // flags of the event suppression that were not negotiated, or are reserved
  kIndirectUnasked,     // an indirect descriptor though INDIRECT_DESC was not negotiated
  kIndirectInChain,     // an indirect descriptor in a chain of several
  kChainTooLong,        // more descriptors than the ring has
};
inline constexpr std::size_t kPackedClauses = 14;
std::string_view to_string(PackedClause clause) noexcept;

/// One per ring. Hooks: the thread that drives the ring. Counters: any thread.
class PackedLint final : public PackedObserver {
 public:
  explicit PackedLint(std::uint16_t size, const RingOptions& options = {});

  void on_write_body(std::uint16_t index, std::uint64_t addr, std::uint32_t len, std::uint16_t id) override;
  void on_write_flags(std::uint16_t index, std::uint16_t flags, bool published) override;
  void on_write_table_entry(std::uint16_t table, std::uint16_t position,
                            const spec::packed::Descriptor& value) override;
  void on_write_driver_event(const spec::packed::EventSuppression& event) override;
  spec::packed::EventSuppression on_read_device_event(spec::packed::EventSuppression event) override;
  std::uint16_t on_read_flags(std::uint16_t index, std::uint16_t flags) override;
  spec::ring::UsedElement on_read_used(std::uint16_t index, spec::ring::UsedElement element) override;

  void on_restart() override;

  /// As RingLint::set_sink().
  void set_sink(std::shared_ptr<ChainSink> sink) { sink_ = std::move(sink); }

  std::uint64_t accesses() const noexcept override { return accesses_.load(std::memory_order_relaxed); }
  std::uint64_t violations() const noexcept override { return violations_.load(std::memory_order_relaxed); }
  std::uint64_t violations(PackedClause clause) const noexcept {
    return by_clause_[static_cast<std::size_t>(clause)].load(std::memory_order_relaxed);
  }

 private:
  struct Chain {
    std::uint16_t count = 0;  // descriptors; 0: not in flight
  };
  void breach(PackedClause clause) noexcept;
  void count_access() noexcept;
  /// All that was written since the last publication is the device's now.
  void publish(std::uint16_t index) noexcept;
  void check_table(std::uint16_t index) noexcept;
  void take_segment(const spec::packed::Descriptor& descriptor) noexcept;
  void give_back(std::uint16_t id) noexcept;

  const std::uint16_t size_;
  const RingOptions options_;
  std::shared_ptr<ChainSink> sink_;  // null: nobody looks into the buffers
  // The driving thread only:
  std::vector<Segment> chain_;                         // the one that is being taken, for the sink
  std::vector<spec::packed::Descriptor> descriptors_;  // as the driver wrote them
  std::vector<std::vector<spec::packed::Descriptor>> tables_;
  std::vector<bool> written_;          // since the last publication, by descriptor
  std::vector<bool> table_in_flight_;  // by table
  std::vector<Chain> chains_;          // by id
  std::vector<std::uint16_t> order_;   // ids as they were published
  std::uint16_t next_ = 0;             // descriptor to be published
  /// Descriptors that the device has. Which, is not the question: it reads them in turn, and marks others as used.
  std::uint16_t outstanding_ = 0;
  std::uint16_t unpublished_ = 0;  // descriptors written, and not yet visible
  bool wrap_ = true;               // of next_
  // Written by the driving thread, read by any:
  platform::Atomic<std::uint64_t> accesses_{0};
  platform::Atomic<std::uint64_t> violations_{0};
  std::array<platform::Atomic<std::uint64_t>, kPackedClauses> by_clause_{};
};

}  // namespace upci::inline UPCI_VARIANT::virtio
