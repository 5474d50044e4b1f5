// SPDX-License-Identifier: Apache-2.0
// What split and packed rings share: segments, what was negotiated, counters, and what a device can do wrong.
#pragma once

#include <cstdint>
#include <span>

#include "base/error.h"
#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// A piece of memory that the device may read, or write.
struct Segment {
  std::uint64_t iova = 0;
  std::uint32_t len = 0;
  bool device_writes = false;
};

/// What was negotiated of the ring itself. A value.
struct RingOptions {
  /// A legacy device may report any length for chains that it only reads (section "Legacy Interface: The Virtqueue Used Ring"
  /// warns of that): it is ignored then.
  bool legacy = false;
  bool event_idx = false;  // EVENT_IDX: each side says at which index it wants to be told
  bool in_order = false;   // IN_ORDER: the device uses chains in the order in which they were made available
  bool indirect = false;   // INDIRECT_DESC: a chain may be in a table of its own
};

/// How a ring was used; they only grow. Written by the thread that drives the ring, read by any.
struct RingCounters {
  platform::Atomic<std::uint64_t> kicks{0};             // publications after which the device wanted to be told
  platform::Atomic<std::uint64_t> kicks_suppressed{0};  // and those after which it did not
  platform::Atomic<std::uint64_t> indirect{0};          // chains in a table of their own
  platform::Atomic<std::uint64_t> batched{0};           // IN_ORDER: chains used without a used element of their own

  static void add(platform::Atomic<std::uint64_t>& counter, std::uint64_t amount = 1) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
};

/// Whatever sees the accesses of a ring.
class RingWatcher {
 public:
  virtual ~RingWatcher() = default;
  /// Accesses seen so far, and breaches by the driver among them. Any thread.
  virtual std::uint64_t accesses() const noexcept { return 0; }
  virtual std::uint64_t violations() const noexcept { return 0; }
  /// The ring begins anew, in zeroed memory: what it was before is forgotten.
  virtual void on_restart() {}
};

/// Sees each chain as the device will: for who looks into the buffers. Called by the thread that drives the ring, before the chain
/// becomes available.
class ChainSink {
 public:
  virtual ~ChainSink() = default;
  virtual void on_chain(std::span<const Segment> chain) = 0;
  /// As RingWatcher::on_restart().
  virtual void on_restart() {}
};

/// What the device can do wrong in a used ring.
enum class RingFault : std::uint8_t {
  kNone,
  kIndexAhead,
  kIdOutOfRange,
  kIdNotInFlight,
  kLengthTooLong,
  kBatchTooLong
};

/// The Error for a fault: code kDevice, step "ring", the register that was wrong ("used.idx", "used.id", "used.len").
Error ring_error(RingFault fault, std::uint32_t value, std::uint32_t limit);

}  // namespace upci::inline UPCI_VARIANT::virtio
