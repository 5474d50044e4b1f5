// SPDX-License-Identifier: Apache-2.0
// A virtio network card, as an application uses it: polled, or by interrupt.
//
//   virtio_net::Nic* nic = device::find<virtio_net::Nic>(*context.bound(*device));
//
// Polled: tx_burst and rx_burst, no workqueue involved; of each queue pair at most one thread transmits and one receives at a
// time (they may be different threads). By interrupt: set_receiver once, before any traffic; frames then arrive in the bottom half, on the
// CPU of the receive vector, and tx_burst and wait_tx_room are called by one thread at a time for each pair. No call may be under way when
// the device is removed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "drivers/virtio_net/capture.h"
#include "drivers/virtio_net/packet.h"
#include "drivers/virtio_net/steering.h"
#include "virtio/driver.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// Counters of one queue pair since the probe; they only grow.
struct QueueStats {
  std::uint64_t bottom_halves = 0;  // runs of the works that the vectors queue
  std::uint64_t rx_polls = 0;       // those of them that no interrupt asked for, but Moderation::interval
  std::uint64_t rx_frames = 0, rx_bytes = 0;
  std::uint64_t rx_merged = 0;       // frames that took several buffers (MRG_RXBUF)
  std::uint64_t rx_short = 0;        // dropped: shorter than the virtio header and an Ethernet header
  std::uint64_t rx_bad_offload = 0;  // dropped: what the virtio header says cannot be
  std::uint64_t rx_no_buffer = 0;    // times a receive slot stayed empty because the pool was: free packets sooner
  std::uint64_t rx_lost = 0;         // buffers in a ring that the device broke: as many frames at most are lost
  std::uint64_t tx_frames = 0, tx_bytes = 0;  // accepted by tx_burst
  std::uint64_t tx_completed = 0;             // given back by the device
  std::uint64_t tx_invalid = 0;        // dropped and freed by tx_burst: a length, chain or offload that cannot be sent
  std::uint64_t tx_lost = 0;           // in flight when the card had to be reset: sent or not, nobody knows
  std::uint64_t tx_full = 0;           // times tx_burst accepted fewer than it was given
  std::uint64_t kicks = 0;             // times the device was told of new buffers
  std::uint64_t kicks_suppressed = 0;  // and times it had said that it need not be
  std::uint64_t indirect_chains = 0;   // chains in a table of their own (INDIRECT_DESC)
  std::uint64_t batched_chains = 0;    // chains that the device gave back together with a later one (IN_ORDER)

  QueueStats& operator+=(const QueueStats& other) noexcept;
};

/// The sums over all queue pairs, and what belongs to the card. A snapshot.
struct NicStats : QueueStats {
  std::uint64_t interrupts = 0;       // raised by the device: signals taken from the eventfds, all vectors
  std::uint64_t top_halves = 0;       // calls of top halves; one may serve several interrupts that came close together
  std::uint64_t recoveries = 0;       // times the card, or a pair of its queues, was reset and brought back
  std::uint64_t queue_resets = 0;     // those of them that took no reset of the whole card (RING_RESET)
  std::uint64_t announces = 0;        // times the card asked for gratuitous packets (GUEST_ANNOUNCE)
  std::vector<int> cpus;              // where the bottom halves run, one entry per vector; empty without interrupts
  bool affinity_set = false;          // the backend raises each vector on its CPU
  std::string affinity_note;          // why not
  std::uint64_t ring_accesses = 0;    // seen by the observers of the rings; 0 with the plain access policy
  std::uint64_t ring_violations = 0;  // breaches by this driver that they found
  std::vector<QueueStats> pairs;      // one for each queue pair
};

/// When the receive bottom half waits for an interrupt, and when it looks at the ring by itself: as the kernel's NAPI does, with
/// its budget, gro_flush_timeout and napi_defer_hard_irqs. By default it never looks by itself.
struct Moderation {
  unsigned budget = 64;  // 1 to 64: frames that a run delivers before the CPU's other items get their turn
  /// Once an interval has brought `busy` frames the interrupt stays off, and the ring is looked at again after the next one, until
  /// `idle_polls` looks in a row have found nothing. A card with little to do is not polled: no frame waits for a timer then.
  platform::Nanoseconds interval{0};  // 0: never
  unsigned busy = 8;                  // 1 to 64
  unsigned idle_polls = 2;            // at least 1
};

/// What the device is to let through beside frames to its address. Section "Packet Receive Filtering". The values are the
/// commands of class VIRTIO_NET_CTRL_RX.
enum class ReceiveMode : std::uint8_t {
  kPromiscuous = 0,
  kAllMulticast = 1,
  kAllUnicast = 2,  // this and the following with CTRL_RX_EXTRA
  kNoMulticast = 3,
  kNoUnicast = 4,
  kNoBroadcast = 5,
};

enum class NicEvent : std::uint8_t {
  kLinkUp,
  kLinkDown,
  kAnnounce,  // the card was moved to another place of the network: send gratuitous packets, ARP for example
};

class Nic : public virtio::Bound {
 public:
  using Mac = std::array<std::uint8_t, 6>;
  /// Takes the packets over: each must be given to free() or tx_burst(), now or later. Runs in a worker; may sleep, but no
  /// frame is delivered meanwhile.
  /// With several queue pairs it runs in several workers at once; a call's frames are of one pair (Packet::queue_pair).
  using Receiver = std::function<void(std::span<Packet* const>)>;
  /// Runs in a worker; may sleep, and may use the card.
  using EventHandler = std::function<void(NicEvent)>;

  // --- what the card is; any thread ---
  /// The card's address; a random local one where the card has none (no VIRTIO_NET_F_MAC).
  virtual Mac mac() const = 0;
  /// As last read: by the probe, the configuration interrupt, or update_link. True where the card cannot tell.
  virtual bool link_up() const = 0;
  /// Reads the link status from the card now. Errors: those of Transport::read_config. Any thread; may wait.
  virtual Result<bool> update_link(Deadline deadline) = 0;
  /// The largest payload above the Ethernet header; 1500 where the card does not say.
  virtual std::uint16_t mtu() const = 0;
  /// Mbit/s, and whether full duplex; nothing where the card does not know (SPEED_DUPLEX).
  virtual std::optional<std::uint32_t> speed() const = 0;
  virtual std::optional<bool> full_duplex() const = 0;
  /// The features in use, as a mask of the bits in virtio/spec/features.h.
  virtual std::uint64_t features() const = 0;
  /// Pairs of a receive and a transmit queue, each with its bottom halves on a CPU of its own.
  virtual unsigned queue_pairs() const = 0;
  /// Bytes of a frame that one packet holds; longer frames take several.
  virtual std::uint32_t packet_bytes() const = 0;
  /// How many packets the rings of a pair hold. A sender that wants no loss at the receiver keeps fewer in flight than its rx_slots.
  virtual std::uint16_t rx_slots() const = 0;
  virtual std::uint16_t tx_slots() const = 0;

  // --- packets; any thread ---
  /// Takes up to packets.size() packets from the pool; returns how many. Their length is 0. Fewer: what was sent is given back by
  /// the next tx_burst of its pair, also by one with nothing to send.
  virtual std::size_t alloc(std::span<Packet*> packets) = 0;
  /// Gives packets of this card's pool back.
  virtual void free(std::span<Packet* const> packets) = 0;
  /// One packet, or nullptr when the pool is empty.
  Packet* alloc() {
    Packet* packet = nullptr;
    return alloc(std::span(&packet, 1)) == 1 ? packet : nullptr;
  }
  void free(Packet* packet) { free(std::span<Packet* const>(&packet, 1)); }

  // --- the data path ---
  /// Sends the first n packets and owns them from then on (the pool gets them back once the card has sent them); returns n.
  /// The others stay the caller's. Never waits. 0 when the ring is full or failed() has a value. A packet whose length no
  /// frame can have counts as taken: it is freed, and counted in tx_invalid.
  /// `pair` is below queue_pairs(); each has a transmitting thread of its own.
  virtual std::size_t tx_burst(std::span<Packet* const> packets, unsigned pair = 0) = 0;
  /// Takes up to packets.size() received frames; the caller owns them. Never waits. Polled use only: 0 once a receiver is set.
  virtual std::size_t rx_burst(std::span<Packet*> packets, unsigned pair = 0) = 0;

  // --- interrupt use ---
  /// From now on frames are given to `receiver`. Once, before any traffic. Errors: kUnavailable when the card has no
  /// interrupts (use polling), kState when a receiver is set already, kInvalid for an empty one.
  virtual Result<void> set_receiver(Receiver receiver) = 0;
  /// From the next run of a bottom half on, for all queue pairs. Errors: kInvalid outside of the ranges above. Any thread.
  virtual Result<void> set_moderation(const Moderation& moderation) = 0;
  /// Waits for the transmit interrupt until at least one slot is free. Only in interrupt use, by the transmitting thread.
  /// Errors: kTimeout, kState (no receiver is set), or what failed() says.
  virtual Result<void> wait_tx_room(Deadline deadline, unsigned pair = 0) = 0;

  /// From now on frames that are sent and received are written to this file, too, as the rings have them (capture.h); an empty
  /// pointer ends that. Whoever sends or receives then writes to a file: it costs time. Any thread.
  virtual void set_capture(std::shared_ptr<Capture> capture) = 0;

  // --- the control queue; any thread that may sleep ---
  // Errors of all: kUnavailable when the feature was not negotiated, kVerdict (stuck, gone, needs_reset; step "control"),
  // kDevice when the card refuses, kState when an earlier command was never answered. Filters are best effort: section
  // "Packet Receive Filtering" allows for unwanted frames. After a reset QEMU's cards are promiscuous.

  /// CTRL_RX, the later modes CTRL_RX_EXTRA.
  virtual Result<void> set_receive_mode(ReceiveMode mode, bool on, Deadline deadline) = 0;
  /// The card's own address (CTRL_MAC_ADDR). Errors: kInvalid for a multicast address.
  virtual Result<void> set_mac(const Mac& mac, Deadline deadline) = 0;
  /// Replaces the addresses that are let through beside mac() (CTRL_RX). Errors: kInvalid for an address in the wrong list, or
  /// more than the command holds.
  virtual Result<void> set_mac_filter(std::span<const Mac> unicast, std::span<const Mac> multicast,
                                      Deadline deadline) = 0;
  /// Lets tagged frames of this VLAN through, or not (CTRL_VLAN). Errors: kInvalid above 4094.
  virtual Result<void> set_vlan(std::uint16_t vlan, bool accepted, Deadline deadline) = 0;
  /// Which of the receive offloads that were negotiated are on (CTRL_GUEST_OFFLOADS); a mask as features() has it.
  virtual Result<void> set_receive_offloads(std::uint64_t features, Deadline deadline) = 0;
  /// Into how many pairs the card sorts what it receives (MQ); all at first. Errors: kInvalid for 0 or more than queue_pairs().
  virtual Result<void> set_active_pairs(unsigned pairs, Deadline deadline) = 0;
  /// What the following two can be given.
  virtual SteeringLimits steering_limits() const = 0;
  /// Spreads what arrives over the queue pairs by its hash (RSS), instead of as the card likes. Errors: kInvalid for what the card
  /// cannot take.
  virtual Result<void> set_rss(const Rss& rss, Deadline deadline) = 0;
  /// Which frames are to have their hash told (Packet::hash_report; HASH_REPORT); after set_rss, which says it as well, it is
  /// not needed. Errors: as set_rss.
  virtual Result<void> set_hash_report(std::uint32_t types, std::span<const std::uint8_t> key, Deadline deadline) = 0;
  /// Is told of link changes and announcements from now on; an empty one ends that. The card needs an interrupt.
  virtual void set_event_handler(EventHandler handler) = 0;

  /// Why the data path has stopped for good: the card has left, or was reset and did not come back, or needs that too often.
  /// A card that asks to be reset, or breaks the rules of the ring, is reset and brought back: meanwhile nothing is taken and
  /// nothing arrives; frames in flight are counted in tx_lost. The settings of the control queue are made again.
  virtual std::optional<Error> failed() const = 0;
  virtual NicStats stats() const = 0;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
