// SPDX-License-Identifier: Apache-2.0
// What a Nic is beside its rings: identity, link, packets, vectors, failure. Independent of the rings' access policy.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/wait.h"
#include "device/irq.h"
#include "drivers/virtio_net/counter.h"
#include "drivers/virtio_net/nic.h"
#include "drivers/virtio_net/packet_pool.h"
#include "virtio/ring.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// What the probe read from the card's configuration.
struct CardInfo {
  Nic::Mac mac{};
  std::uint16_t mtu = 1500;
  bool link_up = true;
};

/// The part of an observer that stats() shows; both are null with the plain policy.
struct RingObservers {
  std::unique_ptr<virtio::RingWatcher> rx;
  std::unique_ptr<virtio::RingWatcher> tx;
};

class NicBase : public Nic {
 public:
  /// Which vector does what. Three vectors: one each; two: the queues share one; one (INTx is always one): all share it.
  static constexpr unsigned kConfigVector = 0;
  unsigned rx_vector() const noexcept { return vectors_->count() > 1 ? 1 : 0; }
  unsigned tx_vector() const noexcept { return vectors_->count() > 2 ? 2 : rx_vector(); }
  /// False for INTx, where the card is not told vectors but asked (ISR status) what an interrupt was for.
  bool message_vectors() const noexcept { return !(*vectors_)[0].line(); }

  Mac mac() const override { return info_.mac; }
  std::uint16_t mtu() const override { return info_.mtu; }
  bool link_up() const override { return link_up_.load(std::memory_order_relaxed); }
  Result<bool> update_link(Deadline deadline) override;
  std::size_t alloc(std::span<Packet*> packets) override { return pool_.alloc(packets); }
  std::optional<Error> failed() const override;
  void withdrawn(const Error& error) override { set_failed(error); }

  /// Null when the card has no interrupt.
  device::IrqVectors* vectors() noexcept { return vectors_.get(); }

 protected:
  NicBase(virtio::Device device, const CardInfo& info, PacketPool pool, RingObservers observers,
          std::unique_ptr<device::IrqVectors> vectors);
  ~NicBase() override;

  /// Keeps the first cause of failure, and lets everybody who waits know.
  void set_failed(Error error);
  bool has_failed() const noexcept { return has_failed_.load(std::memory_order_acquire); }

  bool stopping() const noexcept { return stopping_.load(std::memory_order_acquire); }
  /// No access to the rings or the doorbells begins after this, once their locks have been taken.
  void begin_stop() noexcept;
  /// From DRIVER_OK on the configuration interrupt is served.
  void begin_service() noexcept;

  /// Something that a transmitter may wait for has happened.
  void wake_transmitter() noexcept;
  std::uint32_t tx_events() const noexcept { return tx_events_.load(std::memory_order_acquire); }
  /// False when the deadline came first.
  bool wait_tx_event(std::uint32_t seen, Deadline deadline) noexcept;

  void queue_on(unsigned vector, Work& work) noexcept { (*vectors_)[vector].queue(work); }
  void add_common_stats(NicStats& stats) const;
  static void add_ring_stats(NicStats& stats, const virtio::RingCounters& counters) noexcept;

  /// The top half's part for configuration changes, where a vector is shared.
  void queue_config_work() noexcept { queue_on(kConfigVector, config_work_); }

  virtio::Device device_;                        // const after construction
  PacketPool pool_;                              // its own rules
  const RingObservers observers_;                // const; their own rules
  std::unique_ptr<device::IrqVectors> vectors_;  // const after construction

 private:
  void config_top_half(device::Irq&) { queue_config_work(); }
  /// Configuration changed: link status, or the device asks to be reset.
  void config_bottom_half(Work&);

  const CardInfo info_;
  Mutex config_mutex_;                            // orders reads of the card's configuration
  platform::Atomic<bool> link_up_;                // atomic
  platform::Atomic<bool> serving_{false};         // atomic: start() was called
  platform::Atomic<bool> config_missed_{false};   // atomic: a configuration interrupt came before start()
  platform::Atomic<bool> stopping_{false};        // atomic; set once
  platform::Atomic<std::uint32_t> tx_events_{0};  // atomic; a futex word
  mutable platform::Mutex failed_mutex_;
  std::optional<Error> failed_;               // failed_mutex_; set once
  platform::Atomic<bool> has_failed_{false};  // atomic; set after failed_
  Counter config_runs_;                       // written by the config work only
  Work config_work_{this, &NicBase::config_bottom_half};
};

/// Reads the link status. True where the card has none to read.
Result<bool> read_link(const virtio::Device& device, Deadline deadline);

}  // namespace upci::inline UPCI_VARIANT::virtio_net
