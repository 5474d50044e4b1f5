// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_net/nic_base.h"

#include <chrono>
#include <climits>
#include <mutex>
#include <span>
#include <utility>

#include "base/log.h"
#include "virtio/spec/features.h"
#include "virtio/spec/net.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::virtio_net {
namespace {

namespace net = virtio::spec::net;

// How long the configuration interrupt's bottom half may wait for the generation to rest, or for an answer.
constexpr auto kConfigTime = std::chrono::milliseconds(500);

}  // namespace

std::uint64_t pack_mac(const Nic::Mac& mac) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < mac.size(); i++) value |= std::uint64_t{mac[i]} << (8 * i);
  return value;
}

QueueStats& QueueStats::operator+=(const QueueStats& other) noexcept {
  bottom_halves += other.bottom_halves;
  rx_polls += other.rx_polls;
  rx_frames += other.rx_frames;
  rx_bytes += other.rx_bytes;
  rx_merged += other.rx_merged;
  rx_short += other.rx_short;
  rx_bad_offload += other.rx_bad_offload;
  rx_no_buffer += other.rx_no_buffer;
  tx_frames += other.tx_frames;
  tx_bytes += other.tx_bytes;
  tx_completed += other.tx_completed;
  tx_invalid += other.tx_invalid;
  rx_lost += other.rx_lost;
  tx_lost += other.tx_lost;
  tx_full += other.tx_full;
  kicks += other.kicks;
  kicks_suppressed += other.kicks_suppressed;
  indirect_chains += other.indirect_chains;
  batched_chains += other.batched_chains;
  return *this;
}

Result<std::uint16_t> read_net_status(const virtio::Device& device, Deadline deadline) {
  // Section "Device configuration layout": without STATUS the driver should assume that the link is active.
  std::uint16_t status = net::kLinkUp;
  if (!device.has(virtio::spec::net_feature::kStatus)) return status;
  UPCI_TRY(
      device.transport().read_config(net::config::kStatus, std::as_writable_bytes(std::span(&status, 1)), deadline));
  return status;
}

NicBase::NicBase(virtio::Device device, const CardInfo& info, PacketPool pool, Watchers watchers, VectorPlan plan,
                 std::unique_ptr<device::IrqVectors> vectors)
    : device_(std::move(device)),
      pool_(std::move(pool)),
      watchers_(std::move(watchers)),
      plan_(plan),
      vectors_(std::move(vectors)),
      info_(info),
      mac_(pack_mac(info.mac)),
      link_up_(info.link_up) {}

NicBase::~NicBase() {
  // After a probe that failed nobody has done this yet; after a removal they find nothing to do. The works first: the end of a
  // recovery uses the vectors, and a vector may still queue a work that is disabled.
  engine().disable_work_sync(recovery_work_);
  engine().disable_work_sync(config_work_);
  vectors_.reset();
}

Nic::Mac NicBase::mac() const {
  const std::uint64_t value = mac_.load(std::memory_order_relaxed);
  Mac mac{};
  for (std::size_t i = 0; i < mac.size(); i++) mac[i] = static_cast<std::uint8_t>(value >> (8 * i));
  return mac;
}

void NicBase::free(std::span<Packet* const> packets) {
  pool_.free(packets);
  feed_starved();
}

Result<void> NicBase::set_receiver(Receiver receiver) {
  if (!receiver) return fail(Errc::kInvalid, "set_receiver needs a receiver");
  if (!vectors_) {
    return fail(Errc::kUnavailable, name() + ": the network card has no interrupt",
                "poll it: tx_burst and rx_burst need no interrupts");
  }
  {
    const std::lock_guard lock(receiver_mutex_);
    if (receiver_) return fail(Errc::kState, name() + ": a receiver is set already");
    receiver_ = std::move(receiver);
    interrupt_mode_.store(true, std::memory_order_release);
  }
  receive_by_interrupt();
  return {};
}

Result<void> NicBase::set_moderation(const Moderation& wanted) {
  constexpr unsigned kMost = Moderation{}.budget;
  const auto within = [](unsigned value) { return value >= 1 && value <= kMost; };
  if (!within(wanted.budget) || !within(wanted.busy) || wanted.idle_polls == 0 || wanted.interval.count() < 0) {
    return fail(
        Errc::kInvalid, "a moderation that cannot be",
        "budget and busy are 1 to " + std::to_string(kMost) + ", idle_polls is at least 1, interval not negative");
  }
  budget_.store(wanted.budget, std::memory_order_relaxed);
  busy_.store(wanted.busy, std::memory_order_relaxed);
  idle_polls_.store(wanted.idle_polls, std::memory_order_relaxed);
  interval_ns_.store(wanted.interval.count(), std::memory_order_relaxed);
  return {};
}

Moderation NicBase::moderation() const noexcept {
  return {.budget = budget_.load(std::memory_order_relaxed),
          .interval = platform::Nanoseconds(interval_ns_.load(std::memory_order_relaxed)),
          .busy = busy_.load(std::memory_order_relaxed),
          .idle_polls = idle_polls_.load(std::memory_order_relaxed)};
}

void NicBase::set_event_handler(EventHandler handler) {
  const std::lock_guard lock(handler_mutex_);
  handler_ = std::move(handler);
}

void NicBase::set_capture(std::shared_ptr<Capture> capture) {
  std::shared_ptr<const CaptureTap> tap;
  if (capture) tap = std::make_shared<CaptureTap>(std::move(capture), name());
  const std::lock_guard lock(tap_mutex_);
  tap_ = std::move(tap);
  tapped_.store(tap_ != nullptr, std::memory_order_release);
}

std::shared_ptr<const CaptureTap> NicBase::current_tap() const {
  const std::lock_guard lock(tap_mutex_);
  return tap_;
}

void NicBase::tell(NicEvent event) {
  EventHandler handler;
  {
    const std::lock_guard lock(handler_mutex_);
    handler = handler_;
  }
  if (handler) handler(event);
}

Result<bool> NicBase::update_link(Deadline deadline) {
  const std::lock_guard lock(config_mutex_);
  UPCI_TRY_ASSIGN(const std::uint16_t status, read_net_status(device_, deadline));
  const bool up = (status & net::kLinkUp) != 0;
  link_up_.store(up, std::memory_order_relaxed);
  return up;
}

/// What the configuration says now, told to who wants to know.
Result<void> NicBase::read_status(Deadline deadline) {
  std::uint16_t status = 0;
  bool was_up = false;
  {
    const std::lock_guard lock(config_mutex_);
    UPCI_TRY_ASSIGN(status, read_net_status(device_, deadline));
    was_up = link_up_.exchange((status & net::kLinkUp) != 0, std::memory_order_relaxed);
  }
  const bool up = (status & net::kLinkUp) != 0;
  if (up != was_up) tell(up ? NicEvent::kLinkUp : NicEvent::kLinkDown);
  if ((status & net::kAnnounce) == 0 || !device_.has(virtio::spec::net_feature::kGuestAnnounce)) return {};
  announces_.add();
  tell(NicEvent::kAnnounce);
  // Section "Gratuitous Packet Sending": "The driver MUST send a command ... VIRTIO_NET_CTRL_ANNOUNCE_ACK".
  return command(virtio::spec::net_feature::kGuestAnnounce, net::kControlAnnounce, net::kAnnounceAck,
                 std::span<const std::byte>(), deadline);
}

void NicBase::config_bottom_half(Work&) {
  config_runs_.add();
  if (!serving_.load()) {
    // The probe still drives the device. begin_service() looks at this flag after it has set serving_; we set it before we
    // look again: one of the two sees the other.
    config_missed_.store(true);
    if (!serving_.load()) return;
  }
  if (blocked()) return;
  // Section "Device Status Field": "DEVICE_NEEDS_RESET ... the device MUST send a device configuration change notification".
  const std::uint8_t status = device_.transport().status();
  if (!device_.device().control().present()) {
    set_failed(fail_verdict(Verdict::kGone, "config", "device_status", "the network card has left its bus").error());
    return;
  }
  if ((status & virtio::spec::status::kNeedsReset) != 0) {
    note_trouble(fail_verdict(Verdict::kNeedsReset, "config", "device_status", "the network card asks to be reset",
                              "remove the device and probe it again")
                     .error());
    return;
  }
  if (auto read = read_status(Deadline::after(kConfigTime)); !read) {
    log::warn("{}: after a configuration change: {}", name(), read.error().message());
  }
}

void NicBase::begin_service() noexcept {
  serving_.store(true);
  if (config_missed_.load()) queue_config_work();
}

void NicBase::begin_stop() {
  blocked_.fetch_or(kStopping, std::memory_order_seq_cst);
  wake_transmitter();
  // A recovery that has begun drives the device: it ends first, in its own time limit. No other one begins.
  engine().disable_work_sync(recovery_work_);
}

void NicBase::wake_transmitter() noexcept {
  tx_events_.fetch_add(1, std::memory_order_acq_rel);
  platform::wake_word(&tx_events_, INT_MAX);
}

bool NicBase::wait_tx_event(std::uint32_t seen, Deadline deadline) noexcept {
  if (tx_events() != seen) return true;
  BlockingScope blocking;
  return platform::wait_word(tx_events_, seen, deadline.when());
}

void NicBase::add_common_stats(NicStats& stats) const {
  stats.bottom_halves += config_runs_.get();
  stats.announces = announces_.get();
  stats.recoveries = recoveries_.get();
  stats.queue_resets = queue_resets_.get();
  for (const auto& watcher : watchers_) {
    stats.ring_accesses += watcher->accesses();
    stats.ring_violations += watcher->violations();
  }
  if (!vectors_) return;
  stats.affinity_set = true;
  stats.affinity_note = vectors_->affinity_note();
  for (unsigned i = 0; i < vectors_->count(); ++i) {
    const device::Irq& irq = (*vectors_)[i];
    stats.top_halves += irq.interrupts();
    stats.interrupts += irq.signals();
    stats.cpus.push_back(irq.cpu());
    stats.affinity_set = stats.affinity_set && irq.affinity_set();
  }
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
