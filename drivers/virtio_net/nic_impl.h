// SPDX-License-Identifier: Apache-2.0
// The Nic on rings of one kind: its queue pairs, and which vector leads to which of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "drivers/virtio_net/nic_base.h"
#include "drivers/virtio_net/queue_pair.h"
#include "virtio/spec/features.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// A queue that has its ring, and what the device is to be told of it.
template <class Ring>
struct MadeQueue {
  std::uint16_t index = 0;
  std::uint16_t size = 0;
  virtio::OwnedRing<Ring> part;
};

template <class Ring>
class NicImpl final : public NicBase {
 public:
  using Pair = QueuePair<Ring>;
  using Queue = MadeQueue<Ring>;

  NicImpl(virtio::Device device, const CardInfo& info, PacketPool pool, Watchers watchers, VectorPlan plan,
          std::unique_ptr<device::IrqVectors> vectors)
      : NicBase(std::move(device), info, std::move(pool), std::move(watchers), plan, std::move(vectors)) {}

  ~NicImpl() override {
    // No interrupt begins a bottom half any more; one that runs may still queue itself on its vector, until its pair is gone.
    if (vectors_) vectors_->shutdown();
    pairs_.clear();
    vectors_.reset();
  }

  // --- the probe's ---
  void add_pair(Queue rx, Queue tx) {
    const auto index = static_cast<std::uint16_t>(pairs_.size());
    places_.push_back({rx.index, rx.size, rx.part.addresses, plan_.rx(index)});
    places_.push_back({tx.index, tx.size, tx.part.addresses, plan_.tx(index)});
    pairs_.push_back(std::make_unique<Pair>(*this, index, std::move(rx.part), std::move(tx.part)));
  }
  /// After the last pair.
  void add_control_queue(Queue queue, device::DmaBuffer buffer) {
    places_.push_back({queue.index, queue.size, queue.part.addresses, kUnheard});
    set_control_queue(std::make_unique<ControlQueueImpl<Ring>>(device_, std::move(queue.part), std::move(buffer)));
  }

  /// Once all pairs are there. Before the queues are told their vectors: a legacy device has the vector registers only while
  /// MSI-X is enabled.
  Result<void> enable_vectors() {
    if (!vectors_) return {};
    set_handlers();
    return vectors_->enable();
  }

  Result<void> set_up_queues() override {
    if (messages()) UPCI_TRY(device_.transport().set_config_vector(VectorPlan::kConfig));
    for (std::size_t pair = 0; pair < pairs_.size(); pair++) UPCI_TRY(set_up_pair(pair));
    if (control() == nullptr) return {};
    UPCI_TRY_ASSIGN(auto notifier, set_up_queue(places_.back()));
    control()->set_notifier(std::move(notifier));
    return {};
  }

  Result<void> start(Deadline deadline) override {
    start_pairs();
    // Section "Automatic receive steering in multiqueue mode": after a reset the device uses the first pair only.
    if (pairs_.size() > 1 && device_.has(virtio::spec::net_feature::kMq))
      UPCI_TRY(set_active_pairs(static_cast<unsigned>(pairs_.size()), deadline));
    begin_service();
    return {};
  }

  Result<void> quiesce(Deadline deadline) override {
    begin_stop();
    return wait_until_left(deadline);
  }

  unsigned queue_pairs() const override { return static_cast<unsigned>(pairs_.size()); }
  std::uint16_t rx_slots() const override { return pairs_.front()->rx_slots(); }
  std::uint16_t tx_slots() const override { return pairs_.front()->tx_slots(); }

  std::size_t tx_burst(std::span<Packet* const> packets, unsigned pair) override {
    return pair < pairs_.size() ? pairs_[pair]->tx_burst(packets) : 0;
  }
  std::size_t rx_burst(std::span<Packet*> packets, unsigned pair) override {
    return pair < pairs_.size() ? pairs_[pair]->rx_burst(packets) : 0;
  }
  Result<void> wait_tx_room(Deadline deadline, unsigned pair) override {
    if (!interrupt_mode()) return fail(Errc::kState, "wait_tx_room is for interrupt use: set a receiver first");
    if (pair >= pairs_.size()) {
      return fail(Errc::kInvalid, name() + ": there is no queue pair " + std::to_string(pair),
                  "the first one is 0; there are " + std::to_string(pairs_.size()));
    }
    return pairs_[pair]->wait_tx_room(deadline);
  }

  NicStats stats() const override {
    NicStats stats;
    add_common_stats(stats);
    for (const auto& pair : pairs_) stats += stats.pairs.emplace_back(pair->stats());
    return stats;
  }

 private:
  /// A vector of several queues.
  struct Shared {
    explicit Shared(NicImpl& card) noexcept : nic(card) {}
    void queues_top_half(device::Irq& irq) {
      for (Pair* pair : pairs) pair->both_top_half(irq);
    }
    /// The only vector. Sections "Notification of Device Configuration Changes" and "ISR status capability": reading the ISR
    /// status clears it and ends the line interrupt; bit 0 is for queues, bit 1 for the configuration. With MSI-X it is not
    /// used, and the vector can be for anything.
    void only_top_half(device::Irq& irq) {
      std::uint8_t isr = virtio::spec::pci::kIsrQueue | virtio::spec::pci::kIsrConfig;
      if (irq.line()) isr = nic.device_.transport().isr();
      if ((isr & virtio::spec::pci::kIsrConfig) != 0) nic.queue_config_work();
      if ((isr & virtio::spec::pci::kIsrQueue) != 0) queues_top_half(irq);
    }
    NicImpl& nic;
    std::vector<Pair*> pairs;
  };

  void set_handlers() {
    device::IrqVectors& vectors = *vectors_;
    if (vectors.count() > 1) vectors.template set_handler<&NicImpl::config_top_half>(VectorPlan::kConfig, this);
    if (plan_.separate()) {
      for (unsigned pair = 0; pair < pairs_.size(); pair++) {
        vectors.template set_handler<&Pair::rx_top_half>(plan_.rx(pair), pairs_[pair].get());
        vectors.template set_handler<&Pair::tx_top_half>(plan_.tx(pair), pairs_[pair].get());
      }
      return;
    }
    for (unsigned vector = vectors.count() > 1 ? 1 : 0; vector < vectors.count(); vector++) {
      Shared& shared = *shared_.emplace_back(std::make_unique<Shared>(*this));
      for (unsigned pair = 0; pair < pairs_.size(); pair++) {
        if (plan_.rx(pair) == vector) shared.pairs.push_back(pairs_[pair].get());
      }
      if (vectors.count() == 1) {
        vectors.template set_handler<&Shared::only_top_half>(vector, &shared);
      } else {
        vectors.template set_handler<&Shared::queues_top_half>(vector, &shared);
      }
    }
  }

  /// What the device is told of a queue.
  struct Place {
    std::uint16_t queue;
    std::uint16_t size;
    virtio::QueueAddresses addresses;
    unsigned vector;
  };
  static constexpr unsigned kUnheard = ~0U;  // the queue is looked at, no vector is told of it

  /// With INTx the card is not told vectors but asked (ISR status) what an interrupt was for.
  bool messages() const { return vectors_ != nullptr && !(*vectors_)[0].line(); }
  Result<std::unique_ptr<virtio::Notifier>> set_up_queue(const Place& place) {
    const bool told = messages() && place.vector != kUnheard;
    const auto vector = told ? static_cast<std::uint16_t>(place.vector) : virtio::Transport::kNoVector;
    return device_.transport().setup_queue(place.queue, place.size, place.addresses, vector);
  }
  Result<void> set_up_pair(std::size_t pair) {
    UPCI_TRY_ASSIGN(auto rx, set_up_queue(places_[2 * pair]));
    UPCI_TRY_ASSIGN(auto tx, set_up_queue(places_[2 * pair + 1]));
    pairs_[pair]->set_notifiers(std::move(rx), std::move(tx));
    return {};
  }

  Result<void> wait_until_left(Deadline deadline) override {
    for (const auto& pair : pairs_) UPCI_TRY(pair->wait_until_left(deadline));
    return {};
  }
  void restart_rings() override {
    for (const auto& pair : pairs_) pair->restart_rings();
    if (control() != nullptr) control()->restart();
  }
  Result<bool> reset_broken_pairs(Deadline deadline) override {
    bool any = false;
    for (std::size_t pair = 0; pair < pairs_.size(); pair++) {
      if (!pairs_[pair]->broken()) continue;
      any = true;
      for (const std::size_t place : {2 * pair, 2 * pair + 1}) {
        UPCI_TRY(device_.transport().reset_queue(places_[place].queue, deadline));
      }
      pairs_[pair]->restart_rings();
      UPCI_TRY(set_up_pair(pair));
      pairs_[pair]->start();
    }
    return any;
  }
  void start_pairs() override {
    for (const auto& pair : pairs_) pair->start();
  }
  void resume_pairs() override {
    for (const auto& pair : pairs_) pair->resume();
  }
  void wait_for_bottom_halves() override {
    for (const auto& pair : pairs_) pair->wait_for_bottom_halves();
  }
  void feed_starved_pairs() noexcept override {
    for (const auto& pair : pairs_) {
      if (pair->starved()) pair->queue_rx_work();
    }
  }
  void receive_by_interrupt() override {
    for (const auto& pair : pairs_) pair->receive_by_interrupt();
  }

  std::vector<Place> places_;                    // const after the probe: of each pair two, then the control queue's
  std::vector<std::unique_ptr<Pair>> pairs_;     // const after the probe
  std::vector<std::unique_ptr<Shared>> shared_;  // the same
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
