// SPDX-License-Identifier: Apache-2.0
// A ring of whatever kind was negotiated behind one interface: for queues that carry requests, where a virtual call does not
// matter. Data paths name their ring as a template argument instead (virtio/ring_memory.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "base/error.h"
#include "virtio/driver.h"
#include "virtio/packed_access.h"
#include "virtio/ring.h"
#include "virtio/ring_access.h"
#include "virtio/transport.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// Who watches the rings of a device that is opened with BindOptions::observed. An empty function stands for the lint of that
/// kind of ring (RingLint, PackedLint).
struct ObserverFactory {
  std::function<std::unique_ptr<RingObserver>(std::uint16_t queue, std::uint16_t size)> split = {};
  std::function<std::unique_ptr<PackedObserver>(std::uint16_t queue, std::uint16_t size)> packed = {};
};

/// Owns its memory and its observer. One thread at a time, except counters() and watcher().
class AnyRing {
 public:
  struct Used {
    void* cookie = nullptr;
    std::uint32_t length = 0;  // bytes that the device says it wrote: checked to fit the chain
  };

  virtual ~AnyRing() = default;
  virtual std::uint16_t size() const noexcept = 0;
  virtual const QueueAddresses& addresses() const noexcept = 0;
  /// As SplitRing::add(), publish(), next_position(), enable_interrupts() and disable_interrupts().
  virtual bool add(std::span<const Segment> chain, void* cookie) = 0;
  virtual bool publish() = 0;
  virtual std::uint16_t next_position() const noexcept = 0;
  virtual bool enable_interrupts() = 0;
  virtual void disable_interrupts() = 0;
  /// Takes up to used.size() used chains, oldest first; returns how many.
  virtual std::size_t poll(std::span<Used> used) = 0;
  /// Why the ring is broken, or nothing. A broken ring takes and gives nothing any more, until restart().
  virtual std::optional<Error> error() const = 0;
  /// After a reset of the device: begins anew, in zeroed memory. What was in flight is forgotten.
  virtual void restart() = 0;
  virtual const RingCounters& counters() const noexcept = 0;
  /// Null with the plain access policy.
  virtual const RingWatcher* watcher() const noexcept = 0;
};

/// The ring that was negotiated, for `queue`, in zeroed memory of its own. `size` comes from choose_queue_size(). Errors: those of
/// Device::dma_alloc.
Result<std::unique_ptr<AnyRing>> make_any_ring(const Device& device, std::uint16_t queue, std::uint16_t size,
                                               const ObserverFactory& observers);

}  // namespace upci::inline UPCI_VARIANT::virtio
