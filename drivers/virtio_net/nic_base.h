// SPDX-License-Identifier: Apache-2.0
// What a Nic is beside its rings: identity, link, packets, vectors, control commands, failure. Independent of the rings' kind.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/wait.h"
#include "device/irq.h"
#include "drivers/virtio_net/control_queue.h"
#include "drivers/virtio_net/counter.h"
#include "drivers/virtio_net/nic.h"
#include "drivers/virtio_net/packet_pool.h"
#include "drivers/virtio_net/vector_plan.h"
#include "virtio/ring.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// What the probe read from the card's configuration.
struct CardInfo {
  Nic::Mac mac{};
  std::uint16_t mtu = 1500;
  bool link_up = true;
  std::uint16_t max_pairs = 1;
  std::optional<std::uint32_t> speed = {};
  std::optional<bool> full_duplex = {};
  SteeringLimits steering = {};
  bool long_frames = false;  // than Ethernet's usual ones: a frame can take several packets
  /// Packets that only receive rings get. Where frames can take several, those that were sent, which lie in the transmit ring until
  /// somebody sends again, could else be all that there are.
  std::size_t receive_reserve = 0;
};

/// What commands have set, to be set again after a reset.
struct NicSettings {
  std::array<std::optional<bool>, 6> modes{};  // by ReceiveMode
  std::optional<std::vector<Nic::Mac>> unicast{}, multicast{};
  std::optional<Nic::Mac> mac{};
  std::set<std::uint16_t> vlans{};
  std::optional<std::uint64_t> offloads{};
  std::optional<unsigned> active_pairs{};
  std::optional<Rss> rss{};
  struct Hash {
    std::uint32_t types = 0;
    std::vector<std::uint8_t> key;
  };
  std::optional<Hash> hash{};
};

class NicBase : public Nic {
 public:
  Mac mac() const override;
  std::uint16_t mtu() const override { return info_.mtu; }
  std::optional<std::uint32_t> speed() const override { return info_.speed; }
  std::optional<bool> full_duplex() const override { return info_.full_duplex; }
  std::uint64_t features() const override { return device_.features(); }
  std::uint32_t packet_bytes() const override { return pool_.packet_bytes(); }
  bool link_up() const override { return link_up_.load(std::memory_order_relaxed); }
  Result<bool> update_link(Deadline deadline) override;
  std::size_t alloc(std::span<Packet*> packets) override {
    const std::size_t count = pool_.alloc(packets, PacketUse::kSend, info_.receive_reserve);
    // What a device has read lies in another CPU's cache, too. Asked for at once the lines come together; written one after the
    // other, each store would wait for its line.
    for (const Packet* packet : packets.first(count)) platform::prefetch_for_write(packet->data);
    return count;
  }
  void free(std::span<Packet* const> packets) override;
  Result<void> set_receiver(Receiver receiver) override;
  Result<void> set_moderation(const Moderation& moderation) override;
  std::optional<Error> failed() const override;
  void withdrawn(const Error& error) override { set_failed(error); }
  Result<void> freeze(Deadline deadline) override;
  Result<void> restore(Deadline deadline) override;

  Result<void> set_receive_mode(ReceiveMode mode, bool on, Deadline deadline) override;
  Result<void> set_mac(const Mac& mac, Deadline deadline) override;
  Result<void> set_mac_filter(std::span<const Mac> unicast, std::span<const Mac> multicast, Deadline deadline) override;
  Result<void> set_vlan(std::uint16_t vlan, bool accepted, Deadline deadline) override;
  Result<void> set_receive_offloads(std::uint64_t features, Deadline deadline) override;
  Result<void> set_active_pairs(unsigned pairs, Deadline deadline) override;
  SteeringLimits steering_limits() const override { return info_.steering; }
  Result<void> set_rss(const Rss& rss, Deadline deadline) override;
  Result<void> set_hash_report(std::uint32_t types, std::span<const std::uint8_t> key, Deadline deadline) override;
  void set_event_handler(EventHandler handler) override;
  void set_capture(std::shared_ptr<Capture> capture) override;

  // --- for the queue pairs ---
  const virtio::Device& device() const noexcept { return device_; }
  Engine& engine() noexcept { return device_.device().engine(); }
  std::string name() const { return device_.device().name(); }
  PacketPool& pool() noexcept { return pool_; }
  bool long_frames() const noexcept { return info_.long_frames; }
  const VectorPlan& plan() const noexcept { return plan_; }

  /// The card has broken a rule or asks to be reset: it is reset and brought back, or, where that cannot help, failed. Any
  /// context.
  void note_trouble(Error error);
  /// Whether the rings must be left alone: by all who come. Sequentially consistent, as who is inside says so.
  bool blocked() const noexcept { return blocked_.load(std::memory_order_seq_cst) != 0; }
  bool stopping() const noexcept { return (blocked_.load(std::memory_order_acquire) & kStopping) != 0; }
  bool interrupt_mode() const noexcept { return interrupt_mode_.load(std::memory_order_acquire); }
  /// Once interrupt_mode() was seen.
  const Receiver& receiver() const noexcept { return receiver_; }

  /// Something that a transmitter may wait for has happened.
  void wake_transmitter() noexcept;
  std::uint32_t tx_events() const noexcept { return tx_events_.load(std::memory_order_acquire); }
  /// False when the deadline came first.
  bool wait_tx_event(std::uint32_t seen, Deadline deadline) noexcept;

  Moderation moderation() const noexcept;
  /// Null but while frames are captured.
  std::shared_ptr<const CaptureTap> tap() const {
    if (!tapped_.load(std::memory_order_acquire)) [[likely]]
      return nullptr;
    return current_tap();
  }
  int cpu_of(unsigned vector) const noexcept { return (*vectors_)[vector].cpu(); }
  void queue_on(unsigned vector, Work& work) noexcept { (*vectors_)[vector].queue(work); }
  /// Set by a receive queue that found the pool empty.
  platform::Atomic<bool>& any_starved() noexcept { return any_starved_; }
  /// After packets went back to the pool: a receive ring that ran dry because the pool was empty gets no interrupt that would
  /// fill it.
  void feed_starved() noexcept {
    if (!any_starved_.load(std::memory_order_relaxed) || !interrupt_mode()) [[likely]]
      return;
    any_starved_.store(false, std::memory_order_relaxed);
    feed_starved_pairs();
  }

 protected:
  using Watchers = std::vector<std::unique_ptr<virtio::RingWatcher>>;

  /// `watchers`: of the rings; empty with the plain policy. `vectors` is null without interrupts.
  NicBase(virtio::Device device, const CardInfo& info, PacketPool pool, Watchers watchers, VectorPlan plan,
          std::unique_ptr<device::IrqVectors> vectors);
  ~NicBase() override;

  virtual void feed_starved_pairs() noexcept = 0;
  /// Interrupt mode has been entered.
  virtual void receive_by_interrupt() = 0;
  /// Waits until nobody is at the rings; new ones see blocked().
  virtual Result<void> wait_until_left(Deadline deadline) = 0;
  /// After a reset: takes back what is in flight, and makes the rings as they were at first.
  virtual void restart_rings() = 0;
  /// Tells the device where its queues are, and their vectors.
  virtual Result<void> set_up_queues() = 0;
  /// The device is live: makes receive buffers available.
  virtual void start_pairs() = 0;
  /// Resets the queues of each pair that has a broken ring, one by one, and sets them up again; frames in flight there are lost.
  /// False when there is none.
  virtual Result<bool> reset_broken_pairs(Deadline deadline) = 0;
  virtual void resume_pairs() = 0;
  /// Waits for the bottom halves that are under way, the receiver's calls among them. Those that come see blocked().
  virtual void wait_for_bottom_halves() = 0;

  void set_control_queue(std::unique_ptr<ControlQueue> queue) noexcept { control_ = std::move(queue); }
  ControlQueue* control() noexcept { return control_.get(); }
  /// No access to the rings or the doorbells begins after this, once their locks have been taken.
  void begin_stop();
  /// From DRIVER_OK on the configuration interrupt is served.
  void begin_service() noexcept;
  void add_common_stats(NicStats& stats) const;
  void config_top_half(device::Irq&) { queue_config_work(); }
  /// Where a vector is shared.
  void queue_config_work() noexcept { queue_on(VectorPlan::kConfig, config_work_); }

  virtio::Device device_;                        // const after construction
  PacketPool pool_;                              // its own rules
  const Watchers watchers_;                      // const; their own rules
  const VectorPlan plan_;                        // const
  std::unique_ptr<device::IrqVectors> vectors_;  // const after construction

 private:
  static constexpr std::uint32_t kStopping = 1, kFailed = 2, kRecovering = 4, kFrozen = 8;
  bool frozen() const noexcept { return (blocked_.load(std::memory_order_acquire) & kFrozen) != 0; }

  std::shared_ptr<const CaptureTap> current_tap() const;
  /// Keeps the first cause of failure, and lets everybody who waits know.
  void set_failed(Error error);
  void recover(Work&);
  Result<void> bring_back(Deadline deadline);
  /// Whether rings alone are at fault, not the card: RING_RESET mends that. The card's state is looked at.
  bool may_reset_queues();
  Result<void> reset_card(Deadline deadline);
  /// What was set by commands is lost with a reset.
  Result<void> make_settings_again(Deadline deadline);
  /// Configuration changed: link status, an announcement, or the device asks to be reset.
  void config_bottom_half(Work&);
  Result<void> read_status(Deadline deadline);
  void tell(NicEvent event);
  Result<void> command(unsigned feature, std::uint8_t command_class, std::uint8_t command,
                       std::span<const std::span<const std::byte>> pieces, Deadline deadline);
  Result<void> command(unsigned feature, std::uint8_t command_class, std::uint8_t command,
                       std::span<const std::byte> data, Deadline deadline) {
    return this->command(feature, command_class, command, std::span(&data, data.empty() ? 0 : 1), deadline);
  }

  const CardInfo info_;
  platform::Atomic<std::uint64_t> mac_;          // atomic; six bytes, the first one lowest
  std::unique_ptr<ControlQueue> control_;        // const after the probe; null without CTRL_VQ
  Mutex config_mutex_;                           // orders reads of the card's configuration
  platform::Atomic<bool> link_up_;               // atomic
  platform::Atomic<bool> serving_{false};        // atomic: start() was called
  platform::Atomic<bool> config_missed_{false};  // atomic: a configuration interrupt came before start()
  platform::Atomic<std::uint32_t> blocked_{0};   // atomic; why the rings must be left alone
  platform::Mutex receiver_mutex_;
  Receiver receiver_;                             // receiver_mutex_ to set it; const once interrupt_mode_ is set
  platform::Atomic<bool> interrupt_mode_{false};  // atomic; set once
  // atomic each; a run may see a part of a new Moderation with a part of the old
  platform::Atomic<unsigned> budget_{Moderation{}.budget}, busy_{Moderation{}.busy};
  platform::Atomic<unsigned> idle_polls_{Moderation{}.idle_polls};
  platform::Atomic<std::int64_t> interval_ns_{0};
  platform::Atomic<bool> tapped_{false};  // atomic
  mutable platform::Mutex tap_mutex_;
  std::shared_ptr<const CaptureTap> tap_;  // tap_mutex_
  platform::Mutex handler_mutex_;
  EventHandler handler_;                          // handler_mutex_
  platform::Atomic<bool> any_starved_{false};     // atomic; a hint
  platform::Atomic<std::uint32_t> tx_events_{0};  // atomic; a futex word
  mutable platform::Mutex failed_mutex_;
  std::optional<Error> failed_;       // failed_mutex_; set once
  unsigned resets_in_a_row_ = 0;      // failed_mutex_
  platform::TimePoint last_reset_{};  // failed_mutex_
  Mutex settings_mutex_;              // orders commands that are remembered
  NicSettings settings_;              // settings_mutex_
  Counter recoveries_;                // written by the recovery work only
  Counter queue_resets_;              // the same
  Counter config_runs_;               // written by the config work only
  Counter announces_;                 // the same
  Work config_work_{this, &NicBase::config_bottom_half};
  Work recovery_work_{this, &NicBase::recover};
};

/// An address in one word, the first byte lowest.
std::uint64_t pack_mac(const Nic::Mac& mac) noexcept;

/// The status field of the card's configuration; link up where the card has none. Errors: those of Transport::read_config.
Result<std::uint16_t> read_net_status(const virtio::Device& device, Deadline deadline);

}  // namespace upci::inline UPCI_VARIANT::virtio_net
