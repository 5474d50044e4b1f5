// SPDX-License-Identifier: Apache-2.0
// The Nic on rings of one kind.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>

#include "drivers/virtio_net/nic_base.h"
#include "drivers/virtio_net/rx_queue.h"
#include "drivers/virtio_net/tx_queue.h"
#include "virtio/queue.h"
#include "virtio/ring_memory.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// On split or packed rings, of either access policy. Polled: rx_ belongs to the receiving thread, tx_ to the transmitting one, and no lock is taken. By interrupt: rx_ belongs
/// to who holds rx_mutex_ and tx_ to who holds tx_mutex_ (the bottom halves, and the callers of tx_burst and wait_tx_room).
template <class Ring>
class NicImpl final : public NicBase {
 public:
  using RingPart = virtio::OwnedRing<Ring>;

  NicImpl(virtio::Device device, const CardInfo& info, PacketPool pool, RingObservers observers,
          std::unique_ptr<device::IrqVectors> vectors, RingPart rx, RingPart tx)
      : NicBase(device, info, std::move(pool), std::move(observers), std::move(vectors)),
        rx_memory_(std::move(rx.memory)),
        tx_memory_(std::move(tx.memory)),
        rx_(std::move(rx.ring), Framing(device), pool_),
        tx_(std::move(tx.ring), Framing(device), pool_) {
    // Until somebody asks for interrupts the queues are polled.
    rx_.disable_interrupts();
    tx_.disable_interrupts();
    if (!vectors_) return;
    if (vectors_->count() == 1) {
      vectors_->template set_handler<&NicImpl::only_top_half>(0, this);
    } else if (tx_vector() == rx_vector()) {
      vectors_->template set_handler<&NicImpl::queues_top_half>(rx_vector(), this);
    } else {
      vectors_->template set_handler<&NicImpl::rx_top_half>(rx_vector(), this);
      vectors_->template set_handler<&NicImpl::tx_top_half>(tx_vector(), this);
    }
  }

  ~NicImpl() override {
    vectors_.reset();
    // After a removal they are disabled already; after a failed probe this is the only one to do it.
    device_.device().engine().disable_work_sync(rx_work_);
    device_.device().engine().disable_work_sync(tx_work_);
    rx_.detach();
    tx_.detach();
  }

  void set_notifiers(std::unique_ptr<virtio::Notifier> rx, std::unique_ptr<virtio::Notifier> tx) noexcept {
    rx_.set_notifier(std::move(rx));
    tx_.set_notifier(std::move(tx));
  }

  Result<void> start(Deadline) override {
    rx_.refill();
    begin_service();
    return {};
  }

  Result<void> quiesce(Deadline) override {
    begin_stop();
    if (!interrupt_mode()) return {};
    // Who is at the rings now finishes first; who comes later sees that we are stopping. Neither lock is held for long:
    // frames are delivered without it.
    { const std::lock_guard lock(rx_mutex_); }
    { const std::lock_guard lock(tx_mutex_); }
    return {};
  }

  std::uint16_t rx_slots() const override { return rx_.slots(); }
  std::uint16_t tx_slots() const override { return tx_.slots(); }

  void free(std::span<Packet* const> packets) override {
    pool_.free(packets);
    feed_starved_receiver();
  }

  std::size_t tx_burst(std::span<Packet* const> packets) override {
    if (!interrupt_mode()) return send(packets);
    const std::lock_guard lock(tx_mutex_);
    return send(packets);
  }

  std::size_t rx_burst(std::span<Packet*> packets) override {
    if (interrupt_mode() || stopping() || has_failed()) return 0;
    const std::size_t count = rx_.receive(packets);
    if (rx_.broken()) [[unlikely]]
      set_failed(*rx_.error());
    return count;
  }

  Result<void> set_receiver(Receiver receiver) override {
    if (!receiver) return fail(Errc::kInvalid, "set_receiver needs a receiver");
    if (!vectors_) {
      return fail(Errc::kUnavailable, device_.device().name() + ": the network card has no interrupt",
                  "poll it: tx_burst and rx_burst need no interrupts");
    }
    const std::lock_guard lock(rx_mutex_);
    if (receiver_) return fail(Errc::kState, device_.device().name() + ": a receiver is set already");
    receiver_ = std::move(receiver);
    interrupt_mode_.store(true, std::memory_order_release);
    if (rx_.enable_interrupts()) queue_on(rx_vector(), rx_work_);
    return {};
  }

  Result<void> wait_tx_room(Deadline deadline) override {
    if (!interrupt_mode()) return fail(Errc::kState, "wait_tx_room is for interrupt use: set a receiver first");
    for (bool last = false;; last = deadline.expired()) {
      // Before the look at the ring: what happens after it changes the count.
      const std::uint32_t seen = tx_events();
      if (auto error = failed()) return std::unexpected(std::move(*error));
      {
        const std::lock_guard lock(tx_mutex_);
        if (stopping()) return fail(Errc::kState, device_.device().name() + ": the network card is being removed");
        if (make_room()) return {};
      }
      if (last)
        return fail(Errc::kTimeout, device_.device().name() + ": the network card sent nothing until the deadline");
      wait_tx_event(seen, deadline);
    }
  }

  NicStats stats() const override {
    NicStats stats;
    add_common_stats(stats);
    stats.bottom_halves += rx_runs_.get() + tx_runs_.get();
    stats.rx_frames = rx_.frames();
    stats.rx_bytes = rx_.bytes();
    stats.rx_short = rx_.short_frames();
    stats.rx_no_buffer = rx_.no_buffer();
    stats.tx_frames = tx_.frames();
    stats.tx_bytes = tx_.bytes();
    stats.tx_completed = tx_.completed();
    stats.tx_invalid = tx_.invalid();
    stats.tx_full = tx_.full();
    add_ring_stats(stats, rx_.ring_counters());
    add_ring_stats(stats, tx_.ring_counters());
    return stats;
  }

 private:
  /// Frames that one run of the receive bottom half delivers before the CPU's other items get their turn.
  static constexpr std::size_t kBudget = 64;

  void rx_top_half(device::Irq& irq) { irq.queue(rx_work_); }
  void tx_top_half(device::Irq& irq) { irq.queue(tx_work_); }
  void queues_top_half(device::Irq& irq) {
    irq.queue(rx_work_);
    // A transmit interrupt is asked for only by wait_tx_room.
    if (tx_wanted_.load(std::memory_order_acquire)) irq.queue(tx_work_);
  }

  /// Section "Notification of Device Configuration Changes"/"ISR status capability": reading the ISR status clears it and
  /// ends the line interrupt; bit 0 is for queues, bit 1 for the configuration. With MSI-X it is not used, and the one
  /// vector can be for anything.
  void only_top_half(device::Irq& irq) {
    std::uint8_t isr = virtio::spec::pci::kIsrQueue | virtio::spec::pci::kIsrConfig;
    if (irq.line()) isr = device_.transport().isr();
    if ((isr & virtio::spec::pci::kIsrConfig) != 0) queue_config_work();
    if ((isr & virtio::spec::pci::kIsrQueue) != 0) queues_top_half(irq);
  }

  bool interrupt_mode() const noexcept { return interrupt_mode_.load(std::memory_order_acquire); }

  /// After packets went back to the pool: a receive ring that ran dry because the pool was empty gets no interrupt that
  /// would fill it.
  void feed_starved_receiver() {
    if (rx_.starved() && interrupt_mode()) [[unlikely]]
      queue_on(rx_vector(), rx_work_);
  }

  std::size_t send(std::span<Packet* const> packets) {
    if (stopping() || has_failed()) return 0;
    const std::size_t count = tx_.send(packets);
    feed_starved_receiver();
    if (tx_.broken()) [[unlikely]]
      set_failed(*tx_.error());
    return count;
  }

  /// Under tx_mutex_. True when there is room; false with transmit interrupts enabled.
  bool make_room() {
    for (;;) {
      tx_.reclaim();
      feed_starved_receiver();
      if (tx_.broken()) {
        set_failed(*tx_.error());
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
      if (stopping() || has_failed()) return;
      tx_.disable_interrupts();
      tx_wanted_.store(false, std::memory_order_release);
      tx_.reclaim();
      feed_starved_receiver();
      if (tx_.broken()) set_failed(*tx_.error());
    }
    wake_transmitter();
  }

  void rx_bottom_half(Work&) {
    rx_runs_.add();
    std::array<Packet*, kBudget> packets;
    std::size_t count = 0;
    bool again = false;
    {
      const std::lock_guard lock(rx_mutex_);
      if (!receiver_ || stopping() || has_failed()) return;
      rx_.clear_starved();
      rx_.disable_interrupts();
      count = rx_.receive(packets);
      // Either the budget is used up: then the interrupt stays off and the work goes to the end of its CPU's queue, behind
      // the other items. Or the ring was empty: then the interrupt is armed, unless something came meanwhile.
      again = count == kBudget || rx_.enable_interrupts();
      if (again) rx_.disable_interrupts();
      if (rx_.broken()) {
        set_failed(*rx_.error());
        again = false;
      }
    }
    // Without the lock, which quiesce() takes: the receiver may sleep. receiver_ does not change any more.
    if (count != 0) receiver_(std::span<Packet* const>(packets).first(count));
    if (again) queue_on(rx_vector(), rx_work_);
  }

  const device::DmaBuffer rx_memory_;
  const device::DmaBuffer tx_memory_;
  Mutex rx_mutex_;
  RxQueue<Ring> rx_;  // see above
  Mutex tx_mutex_;
  TxQueue<Ring> tx_;                              // see above
  Receiver receiver_;                             // rx_mutex_ to set it; const afterwards
  platform::Atomic<bool> interrupt_mode_{false};  // atomic; set once
  platform::Atomic<bool> tx_wanted_{false};       // written under tx_mutex_; a hint for the shared vector
  Counter rx_runs_;                               // written by the receive work only
  Counter tx_runs_;                               // written by the transmit work only
  Work rx_work_{this, &NicImpl::rx_bottom_half};
  Work tx_work_{this, &NicImpl::tx_bottom_half};
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
