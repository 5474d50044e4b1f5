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

// How long the configuration interrupt's bottom half may wait for the generation to rest.
constexpr auto kConfigTime = std::chrono::milliseconds(500);

}  // namespace

Result<bool> read_link(const virtio::Device& device, Deadline deadline) {
  // Section "Device configuration layout": without STATUS the driver should assume that the link is active.
  if (!device.has(virtio::spec::net_feature::kStatus)) return true;
  std::uint16_t status = 0;
  UPCI_TRY(
      device.transport().read_config(net::config::kStatus, std::as_writable_bytes(std::span(&status, 1)), deadline));
  return (status & net::kLinkUp) != 0;
}

NicBase::NicBase(virtio::Device device, const CardInfo& info, PacketPool pool, RingObservers observers,
                 std::unique_ptr<device::IrqVectors> vectors)
    : device_(std::move(device)),
      pool_(std::move(pool)),
      observers_(std::move(observers)),
      vectors_(std::move(vectors)),
      info_(info),
      link_up_(info.link_up) {
  if (vectors_) vectors_->set_handler<&NicBase::config_top_half>(kConfigVector, this);
}

NicBase::~NicBase() {
  // After a probe that failed nobody has done this yet; after a removal both find nothing to do.
  vectors_.reset();
  device_.device().engine().disable_work_sync(config_work_);
}

Result<bool> NicBase::update_link(Deadline deadline) {
  const std::lock_guard lock(config_mutex_);
  UPCI_TRY_ASSIGN(const bool up, read_link(device_, deadline));
  link_up_.store(up, std::memory_order_relaxed);
  return up;
}

void NicBase::config_bottom_half(Work&) {
  config_runs_.add();
  if (!serving_.load()) {
    // The probe still drives the device. begin_service() looks at this flag after it has set serving_; we set it before we
    // look again: one of the two sees the other.
    config_missed_.store(true);
    if (!serving_.load()) return;
  }
  if (stopping() || has_failed()) return;
  // Section "Device Status Field": "DEVICE_NEEDS_RESET ... the device MUST send a device configuration change notification".
  const std::uint8_t status = device_.transport().status();
  if (!device_.device().control().present()) {
    set_failed(fail_verdict(Verdict::kGone, "config", "device_status", "the network card has left its bus").error());
    return;
  }
  if ((status & virtio::spec::status::kNeedsReset) != 0 && !stopping()) {
    set_failed(fail_verdict(Verdict::kNeedsReset, "config", "device_status", "the network card asks to be reset",
                            "remove the device and probe it again")
                   .error());
    return;
  }
  if (auto up = update_link(Deadline::after(kConfigTime)); !up) {
    log::warn("{}: reading the link status: {}", device_.device().name(), up.error().message());
  }
}

void NicBase::begin_service() noexcept {
  serving_.store(true);
  if (config_missed_.load()) queue_config_work();
}

void NicBase::begin_stop() noexcept {
  stopping_.store(true, std::memory_order_release);
  wake_transmitter();
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

void NicBase::set_failed(Error error) {
  {
    const std::lock_guard lock(failed_mutex_);
    if (failed_) return;
    failed_ = std::move(error);
    log::error("{}: {}", device_.device().name(), failed_->message());
  }
  has_failed_.store(true, std::memory_order_release);
  wake_transmitter();
}

std::optional<Error> NicBase::failed() const {
  if (!has_failed()) return std::nullopt;
  const std::lock_guard lock(failed_mutex_);
  return failed_;
}

void NicBase::add_common_stats(NicStats& stats) const {
  stats.bottom_halves += config_runs_.get();
  for (const virtio::RingWatcher* watcher : {observers_.rx.get(), observers_.tx.get()}) {
    if (watcher == nullptr) continue;
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

void NicBase::add_ring_stats(NicStats& stats, const virtio::RingCounters& counters) noexcept {
  stats.kicks += counters.kicks.load(std::memory_order_relaxed);
  stats.kicks_suppressed += counters.kicks_suppressed.load(std::memory_order_relaxed);
  stats.indirect_chains += counters.indirect.load(std::memory_order_relaxed);
  stats.batched_chains += counters.batched.load(std::memory_order_relaxed);
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
