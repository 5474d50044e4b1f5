// SPDX-License-Identifier: Apache-2.0
// A queue that carries requests: many threads put requests in, each waits for its own, with a deadline.
//
//   lent      -- add, publish --> in flight -- used, wanted --> done --> free
//     ^                              |                                    |
//     |                              +--- deadline --> lost -- used ------+
//     +------------------------------------------------------------------+
//
// A lost slot belongs to nobody but the device. It is free again when the device returns it or was reset, or with the queue, whose
// memory is freed only once the device is proven quiet (device/quarantine.h). A reset of the device makes what was in flight
// done, too, but cancelled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/platform.h"
#include "base/wait.h"
#include "device/device.h"
#include "virtio/any_ring.h"
#include "virtio/request.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT::virtio {

class RequestDevice;

/// What a queue is to be like.
struct RequestQueueShape {
  std::uint16_t at_most = 256;    // entries of the ring
  std::uint16_t slots = 32;       // requests in flight, at most
  std::uint16_t segments = 1;     // of the longest chain
  std::size_t slot_bytes = 4096;  // memory of one request
};

/// Counters since the probe. A snapshot.
struct RequestStats {
  std::uint64_t submitted = 0;          // given to the device
  std::uint64_t completed = 0;          // returned by it while somebody waited
  std::uint64_t given_up = 0;           // not returned when their wait ended
  std::uint64_t returned_late = 0;      // of those, returned after all, or taken back when the device was reset
  std::uint64_t cancelled = 0;          // in flight when the device was reset, and ended as such: ECANCELED
  std::uint64_t recoveries = 0;         // times the device asked to be reset, or broke a ring, and was brought back
  std::uint64_t without_interrupt = 0;  // found in the ring only when the deadline had come: an interrupt was lost
  std::uint64_t kicks = 0;              // times the device was told of new requests
  std::uint64_t kicks_suppressed = 0;   // and times it had said that it need not be
  std::uint64_t indirect_chains = 0;    // chains in a table of their own (INDIRECT_DESC)
  std::uint64_t ring_accesses = 0;      // seen by the observers of the rings; 0 with the plain access policy
  std::uint64_t ring_violations = 0;    // breaches by this driver that they found
};

/// Made and owned by a RequestDevice. run() from any thread.
class RequestQueue {
 public:
  /// The ring and the memory of the slots. Errors: those of choose_queue_size and Device::dma_alloc; kDevice when the ring is
  /// too small for one request.
  static Result<std::unique_ptr<RequestQueue>> create(RequestDevice& owner, const Device& device, std::uint16_t index,
                                                      const RequestQueueShape& shape, const ObserverFactory& observers);
  ~RequestQueue() = default;

  std::uint16_t index() const noexcept { return index_; }
  AnyRing& ring() noexcept { return *ring_; }
  std::uint16_t slots() const noexcept { return static_cast<std::uint16_t>(slots_.size()); }
  void set_notifier(std::unique_ptr<Notifier> notifier) noexcept;

  /// Puts them all in, as many at once as there are slots, and waits until each has its result. See RequestDevice::run.
  void run(std::span<Request* const> requests, Deadline deadline);

  /// True: the bottom half takes what the device returns. False: those who wait look at the ring themselves.
  void set_interrupts(bool on);
  /// Everybody who waits looks again at what has happened.
  void wake_all() noexcept;
  Work& work() noexcept { return work_; }
  void add_stats(RequestStats& stats) const;

  // --- around a reset of the device (request_recovery.cc) ---
  enum class Gate : std::uint8_t {
    kOpen,
    kDraining,  // nothing new goes to the device; what it has may come back
    kClosed,    // nobody touches the ring or the doorbell
  };
  void set_gate(Gate gate);
  /// Waits until the device has returned all that somebody waits for. False: not by the deadline, or never, as the ring is
  /// broken or the device has failed.
  bool wait_until_drained(Deadline deadline);
  /// After the reset, with the gate closed: what the device had returned by then counts, the rest is cancelled, and the ring
  /// begins anew.
  void take_back();

 private:
  static constexpr std::size_t kMostSlots = 64;

  struct Run;
  struct Slot {
    enum class State : std::uint8_t { kFree, kLent, kInFlight, kDone, kLost };
    State state = State::kFree;  // mutex_
    Run* run = nullptr;          // mutex_; whose it is; null when free or lost
    Request* request = nullptr;  // mutex_; the same
    std::uint32_t length = 0;    // mutex_; kDone: what the device says it wrote
    bool cancelled = false;      // mutex_; kDone: the device was reset instead
    RequestMemory memory;        // const; its bytes belong to who has the slot
    std::vector<Segment> chain;  // who has the slot
    std::size_t segments = 0;    // who has the slot; of chain, in use
  };

  RequestQueue(RequestDevice& owner, const Device& device, std::uint16_t index, std::unique_ptr<AnyRing> ring,
               std::vector<device::DmaBuffer> memory, const RequestQueueShape& shape);

  bool interrupts() const noexcept { return interrupts_.load(std::memory_order_acquire); }
  void arm();                // under mutex_
  bool in_flight() const;    // under mutex_
  void reap();               // under mutex_
  void release(Slot& slot);  // under mutex_
  bool take_done(Run& run, bool look, bool more);
  void finish_done(Run& run);
  void submit(Run& run);
  void give_up(Run& run, const Error& error);
  Error why_give_up(Run& run, Deadline deadline);
  void rest(Run& run, std::uint32_t seen, Deadline deadline);
  void bottom_half(Work&);

  RequestDevice& owner_;
  const std::string name_;  // of the device
  const std::uint16_t index_;
  const std::vector<device::DmaBuffer> memory_;
  mutable Mutex mutex_;
  const std::unique_ptr<AnyRing> ring_;        // mutex_
  std::unique_ptr<Notifier> notifier_;         // mutex_
  Gate gate_ = Gate::kOpen;                    // mutex_
  std::vector<Slot> slots_;                    // see there
  std::vector<Slot*> free_;                    // mutex_
  RequestStats counted_;                       // mutex_
  platform::Atomic<std::uint32_t> events_{0};  // atomic; a futex word: grows when something has come back, or failed
  platform::Atomic<bool> interrupts_{false};   // atomic; changed under mutex_
  Work work_{this, &RequestQueue::bottom_half};
};

}  // namespace upci::inline UPCI_VARIANT::virtio
