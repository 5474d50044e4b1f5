// SPDX-License-Identifier: Apache-2.0
// One receive and one transmit queue, with their bottom halves.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <utility>

#include "drivers/virtio_net/nic_base.h"
#include "drivers/virtio_net/rx_queue.h"
#include "drivers/virtio_net/tx_queue.h"
#include "virtio/ring_memory.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// On split or packed rings, of either access policy. Polled: rx_ belongs to the receiving thread, tx_ to the transmitting
/// one, and no lock is taken. By interrupt: rx_ belongs to who holds rx_mutex_ and tx_ to who holds tx_mutex_ (the bottom
/// halves, and the callers of tx_burst and wait_tx_room).
template <class Ring>
class QueuePair {
 public:
  using RingPart = virtio::OwnedRing<Ring>;

  QueuePair(NicBase& nic, std::uint16_t index, RingPart rx, RingPart tx)
      : nic_(nic),
        index_(index),
        rx_memory_(std::move(rx.memory)),
        tx_memory_(std::move(tx.memory)),
        rx_(std::move(rx.ring), nic.device(), nic.pool(), index, nic.long_frames(), nic.any_starved()),
        tx_(std::move(tx.ring), nic.device(), nic.pool(), nic.mtu()) {
    // Until somebody asks for interrupts the queues are polled.
    rx_.disable_interrupts();
    tx_.disable_interrupts();
  }

  ~QueuePair() {
    // This is the only one to do it: they are no works that the driver core knows. The one that asks for another first.
    nic_.engine().disable_delayed_work_sync(rx_later_);
    nic_.engine().disable_work_sync(rx_work_);
    nic_.engine().disable_work_sync(tx_work_);
    rx_.detach();
    tx_.detach();
    rx_.free_kept();
  }

  void set_notifiers(std::unique_ptr<virtio::Notifier> rx, std::unique_ptr<virtio::Notifier> tx) noexcept {
    rx_.set_notifier(std::move(rx));
    tx_.set_notifier(std::move(tx));
  }

  std::uint16_t rx_slots() const noexcept { return rx_.slots(); }
  std::uint16_t tx_slots() const noexcept { return tx_.slots(); }

  /// The device is live: receive buffers may be made available.
  void start() { rx_.refill(); }

  /// Waits for who is at the rings now; who comes later sees that the card is blocked. Neither lock is held for long: frames
  /// are delivered without it. Errors: kTimeout.
  Result<void> wait_until_left(Deadline deadline) {
    { const std::lock_guard lock(rx_mutex_); }
    { const std::lock_guard lock(tx_mutex_); }
    while (rx_inside_.load(std::memory_order_seq_cst) || tx_inside_.load(std::memory_order_seq_cst)) {
      if (deadline.expired()) return fail(Errc::kTimeout, nic_.name() + ": a thread does not leave the rings");
      sleep_for(std::chrono::microseconds(20));
    }
    return {};
  }

  /// While nobody is at the rings.
  bool broken() const noexcept { return rx_.broken() || tx_.broken(); }
  /// The same, after a reset of the device, or of both queues.
  void restart_rings() {
    rx_.take_back();
    tx_.take_back();
    std::memset(rx_memory_.va(), 0, rx_memory_.size());
    std::memset(tx_memory_.va(), 0, tx_memory_.size());
    rx_.restart();
    tx_.restart();
  }
  /// Afterwards, with the device live and the rings open again: interrupts go on where they were in use.
  void resume() {
    if (nic_.interrupt_mode()) queue_rx_work();
  }

  void wait_for_bottom_halves() {
    // The one that asks for the other first.
    nic_.engine().cancel_delayed_work_sync(rx_later_);
    nic_.engine().cancel_work_sync(rx_work_);
    nic_.engine().cancel_work_sync(tx_work_);
  }

  std::size_t tx_burst(std::span<Packet* const> packets) {
    if (!nic_.interrupt_mode()) {
      const Presence presence(tx_inside_);
      return send(packets);
    }
    const std::lock_guard lock(tx_mutex_);
    return send(packets);
  }

  std::size_t rx_burst(std::span<Packet*> packets) {
    if (nic_.interrupt_mode()) return 0;
    const Presence presence(rx_inside_);
    if (nic_.blocked()) return 0;
    const std::size_t count = rx_.receive_again_soon(packets, nic_.tap().get());
    if (rx_.broken()) [[unlikely]]
      nic_.note_trouble(*rx_.error());
    return count;
  }

  /// After interrupt mode was entered: from now on the receive bottom half takes the frames.
  void receive_by_interrupt() {
    const std::lock_guard lock(rx_mutex_);
    if (rx_.enable_interrupts()) queue_rx_work();
  }

  Result<void> wait_tx_room(Deadline deadline) {
    for (bool last = false;; last = deadline.expired()) {
      // Before the look at the ring: what happens after it changes the count.
      const std::uint32_t seen = nic_.tx_events();
      if (auto error = nic_.failed()) return std::unexpected(std::move(*error));
      {
        const std::lock_guard lock(tx_mutex_);
        if (nic_.stopping()) return fail(Errc::kState, nic_.name() + ": the network card is being removed");
        if (!nic_.blocked() && make_room()) return {};
      }
      if (last) return fail(Errc::kTimeout, nic_.name() + ": the network card sent nothing until the deadline");
      nic_.wait_tx_event(seen, deadline);
    }
  }

  bool starved() const noexcept { return rx_.starved(); }
  void queue_rx_work() noexcept { nic_.queue_on(nic_.plan().rx(index_), rx_work_); }

  void rx_top_half(device::Irq& irq) { irq.queue(rx_work_); }
  void tx_top_half(device::Irq& irq) { irq.queue(tx_work_); }
  /// Of a vector that both directions share.
  void both_top_half(device::Irq& irq) {
    irq.queue(rx_work_);
    // A transmit interrupt is asked for only by wait_tx_room.
    if (tx_wanted_.load(std::memory_order_acquire)) irq.queue(tx_work_);
  }

  QueueStats stats() const {
    const virtio::RingCounters& rx = rx_.ring_counters();
    const virtio::RingCounters& tx = tx_.ring_counters();
    const auto sum = [&rx, &tx](auto member) {
      return (rx.*member).load(std::memory_order_relaxed) + (tx.*member).load(std::memory_order_relaxed);
    };
    return {.bottom_halves = rx_runs_.get() + tx_runs_.get(),
            .rx_polls = rx_polls_.get(),
            .rx_frames = rx_.frames(),
            .rx_bytes = rx_.bytes(),
            .rx_merged = rx_.merged(),
            .rx_short = rx_.short_frames(),
            .rx_bad_offload = rx_.bad_offloads(),
            .rx_no_buffer = rx_.no_buffer(),
            .rx_lost = rx_.lost(),
            .tx_frames = tx_.frames(),
            .tx_bytes = tx_.bytes(),
            .tx_completed = tx_.completed(),
            .tx_invalid = tx_.invalid(),
            .tx_lost = tx_.lost(),
            .tx_full = tx_.full(),
            .kicks = sum(&virtio::RingCounters::kicks),
            .kicks_suppressed = sum(&virtio::RingCounters::kicks_suppressed),
            .indirect_chains = sum(&virtio::RingCounters::indirect),
            .batched_chains = sum(&virtio::RingCounters::batched)};
  }

 private:
  /// A polling thread is at a ring. It says so before it looks whether it may be (both sequentially consistent), and who wants
  /// the rings for itself blocks them before it looks who is there: one of the two sees the other.
  class Presence {
   public:
    explicit Presence(platform::Atomic<bool>& inside) noexcept : inside_(inside) {
      inside_.store(true, std::memory_order_seq_cst);
    }
    ~Presence() { inside_.store(false, std::memory_order_release); }
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;

   private:
    platform::Atomic<bool>& inside_;
  };

  static constexpr std::size_t kMostFrames = Moderation{}.budget;

  /// What follows a run of the receive bottom half.
  enum class Then : std::uint8_t { kInterrupt, kAgain, kLater };

  std::size_t send(std::span<Packet* const> packets) {
    if (nic_.blocked()) return 0;
    const std::size_t count = tx_.send(packets, nic_.tap().get(), index_);
    nic_.feed_starved();
    if (tx_.broken()) [[unlikely]]
      nic_.note_trouble(*tx_.error());
    return count;
  }

  /// Under tx_mutex_. True when there is room; false with transmit interrupts enabled.
  bool make_room() {
    for (;;) {
      tx_.reclaim();
      nic_.feed_starved();
      if (tx_.broken()) {
        nic_.note_trouble(*tx_.error());
        return false;
      }
      if (tx_.has_room()) {
        tx_wanted_.store(false, std::memory_order_release);
        return true;
      }
      tx_wanted_.store(true, std::memory_order_release);
      if (!tx_.enable_interrupts()) return false;
      tx_.disable_interrupts();
    }
  }

  void tx_bottom_half(Work&) {
    tx_runs_.add();
    {
      const std::lock_guard lock(tx_mutex_);
      // Interrupts are left out only where the device heeds the hint: in polled use one may come all the same, and the
      // transmitting thread, which takes no lock then, is at the ring.
      if (!nic_.interrupt_mode() || nic_.blocked()) return;
      tx_.disable_interrupts();
      tx_wanted_.store(false, std::memory_order_release);
      tx_.reclaim();
      nic_.feed_starved();
      if (tx_.broken()) nic_.note_trouble(*tx_.error());
    }
    nic_.wake_transmitter();
  }

  void rx_bottom_half(Work&) {
    rx_runs_.add();
    std::array<Packet*, kMostFrames> packets;
    std::size_t count = 0;
    Then then = Then::kInterrupt;
    const Moderation moderation = nic_.moderation();
    {
      const std::lock_guard lock(rx_mutex_);
      if (!nic_.interrupt_mode() || nic_.blocked()) return;
      rx_.clear_starved();
      rx_.disable_interrupts();
      if (polled_) rx_polls_.add();
      count = rx_.receive(std::span(packets).first(moderation.budget), nic_.tap().get());
      then = what_then(count, moderation);
      polled_ = then == Then::kLater;
      if (rx_.broken()) {
        nic_.note_trouble(*rx_.error());
        then = Then::kInterrupt;
      }
    }
    // Without the lock, which wait_until_left() takes: the receiver may sleep.
    if (count != 0) nic_.receiver()(std::span<Packet* const>(packets).first(count));
    if (then == Then::kAgain) queue_rx_work();
    if (then == Then::kLater) {
      nic_.engine().queue_delayed_work_on(nic_.cpu_of(nic_.plan().rx(index_)), nic_.engine().system_wq(), rx_later_,
                                          moderation.interval);
    }
  }

  /// Under rx_mutex_, with interrupts disabled. Either the budget is used up: the work goes to the end of its CPU's queue, behind
  /// the other items. Or the ring is empty: then the interrupt is armed, unless something came meanwhile, or there was so much
  /// that looking again a little later costs less than an interrupt for each frame.
  Then what_then(std::size_t count, const Moderation& moderation) {
    const bool busy = moderation.interval.count() > 0 && is_busy(count, moderation);
    if (count == moderation.budget) return Then::kAgain;
    if (busy) return Then::kLater;
    if (!rx_.enable_interrupts()) return Then::kInterrupt;
    rx_.disable_interrupts();
    return Then::kAgain;
  }

  /// Whether the current interval has brought enough frames; what is polled already stays so for a while.
  bool is_busy(std::size_t count, const Moderation& moderation) {
    const platform::TimePoint now = platform::Clock::now();
    if (now - interval_begin_ >= moderation.interval) {
      interval_begin_ = now;
      interval_frames_ = 0;
    }
    interval_frames_ += count;
    idle_polls_ = count != 0 ? 0 : idle_polls_ + 1;
    return interval_frames_ >= moderation.busy || (polled_ && idle_polls_ < moderation.idle_polls);
  }

  // The bottom half itself has to be one work: frames keep their order.
  void rx_later(Work&) { queue_rx_work(); }

  NicBase& nic_;
  const std::uint16_t index_;
  const device::DmaBuffer rx_memory_;
  const device::DmaBuffer tx_memory_;
  Mutex rx_mutex_;
  platform::Atomic<bool> rx_inside_{false};  // atomic; see Presence
  RxQueue<Ring> rx_;                         // see above
  bool polled_ = false;                      // rx_mutex_: nothing but rx_later_ asks for the next run
  unsigned idle_polls_ = 0;                  // rx_mutex_: runs in a row that found nothing
  platform::TimePoint interval_begin_{};     // rx_mutex_
  std::size_t interval_frames_ = 0;          // rx_mutex_: taken since
  Mutex tx_mutex_;
  platform::Atomic<bool> tx_inside_{false};  // atomic; see Presence
  TxQueue<Ring> tx_;                         // see above
  platform::Atomic<bool> tx_wanted_{false};  // written under tx_mutex_; a hint for the shared vector
  Counter rx_runs_;                          // written by the receive work only
  Counter tx_runs_;                          // written by the transmit work only
  Counter rx_polls_;                         // under rx_mutex_
  Work rx_work_{this, &QueuePair::rx_bottom_half};
  DelayedWork rx_later_{this, &QueuePair::rx_later};
  Work tx_work_{this, &QueuePair::tx_bottom_half};
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
